//! Durations in files: whole milliseconds.

use std::time::Duration;

use serde::{Deserialize as _, Deserializer, Serializer};

/// Writes a duration; what is below a millisecond is cut off.
pub(super) fn serialize<S: Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// Reads one.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Durations by the id of a service. Keys are strings in most formats.
pub(super) mod by_service {
    use std::{collections::BTreeMap, time::Duration};

    use arborcast_protocol::id::ServiceId;
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    type Delays = BTreeMap<ServiceId, Duration>;

    pub(in crate::engine) fn serialize<S: Serializer>(
        delays: &Delays,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let millis = |delay: &Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        serializer.collect_map(delays.iter().map(|(id, delay)| (id.0.to_string(), millis(delay))))
    }

    pub(in crate::engine) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Delays, D::Error> {
        let delays = BTreeMap::<String, u64>::deserialize(deserializer)?;
        delays
            .into_iter()
            .map(|(id, delay_ms)| match id.parse() {
                Ok(id) => Ok((ServiceId(id), Duration::from_millis(delay_ms))),
                Err(_) => Err(de::Error::custom(format_args!("{id:?} is no id of a service"))),
            })
            .collect()
    }
}

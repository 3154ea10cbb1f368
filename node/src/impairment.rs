//! What makes a channel worse than it is, for demonstrations and tests.

use std::{fmt, str::FromStr, time::Duration};

use arborcast_protocol::qos::MILLION;

pub(crate) use stream::Stream;
pub(crate) use wire::{Impairments, Wire};

mod stream;
mod wire;

/// How bad a channel is made, in each direction, beyond what it is by itself. As text:
/// `delay=40ms,jitter=5ms,loss=0.02,rate=2mbit`, each part at most once and at least one of them.
///
/// ```
/// # use std::time::Duration;
/// let bad: arborcast::Impairment = "delay=40ms,loss=0.02".parse()?;
/// assert_eq!(bad.delay, Duration::from_millis(40));
/// # Ok::<(), arborcast::ImpairmentError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Impairment {
    /// Everything comes later by this, at most [`Impairment::LONGEST`].
    pub delay: Duration,
    /// The delay varies by up to this much to both sides, evenly, at most [`Impairment::LONGEST`].
    pub jitter: Duration,
    /// Share of packets lost, in parts per million. Channels are reliable, so a lost packet comes
    /// later instead, by [`Impairment::retransmission`], and so does what follows it on its substream.
    /// What is written at once, up to 16 KiB, counts as a packet.
    pub loss_ppm: u32,
    /// Most bits per second, shared by all substreams; `None` for no bound.
    pub rate_bps: Option<u64>,
}

impl Impairment {
    /// The longest delay and jitter: beyond that a channel counts as dead.
    pub const LONGEST: Duration = Duration::from_secs(10);

    /// The lowest rate, in bits per second: below it control alone does not fit.
    pub const NARROWEST_BPS: u64 = 8_000;

    /// How much later a lost packet comes: a retransmission timeout of TCP in Linux, or twice the
    /// round trip where that is longer.
    #[must_use]
    pub fn retransmission(&self) -> Duration {
        Duration::from_millis(200).max(self.delay.saturating_mul(4))
    }
}

/// Why a text is no [`Impairment`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImpairmentError {
    /// Nothing is named.
    #[error("names nothing; it looks like delay=40ms,jitter=5ms,loss=0.02,rate=2mbit")]
    Empty,
    /// A part is none of those that there are.
    #[error("{0:?} is none of delay=…, jitter=…, loss=… and rate=…")]
    Unknown(String),
    /// A part comes twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// A part has a value that it cannot have.
    #[error("{part}={value}: must be {must_be}")]
    Value {
        /// Which part.
        part: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        must_be: &'static str,
    },
}

impl FromStr for Impairment {
    type Err = ImpairmentError;

    fn from_str(text: &str) -> Result<Self, ImpairmentError> {
        if text.trim().is_empty() {
            return Err(ImpairmentError::Empty);
        }
        let (mut delay, mut jitter, mut loss, mut rate) = (None, None, None, None);
        for item in text.split(',') {
            let unknown = || ImpairmentError::Unknown(item.trim().to_owned());
            let (name, value) = item.split_once('=').ok_or_else(unknown)?;
            let (name, value) = (name.trim(), value.trim());
            match name {
                "delay" => once("delay", &mut delay, value, TIME, time)?,
                "jitter" => once("jitter", &mut jitter, value, TIME, time)?,
                "loss" => once("loss", &mut loss, value, SHARE, share)?,
                "rate" => once("rate", &mut rate, value, RATE, bits)?,
                _ => return Err(unknown()),
            }
        }
        Ok(Self {
            delay: delay.unwrap_or_default(),
            jitter: jitter.unwrap_or_default(),
            loss_ppm: loss.unwrap_or_default(),
            rate_bps: rate,
        })
    }
}

const TIME: &str = "a time from 0ms to 10s, as 40ms or 0.5s";
const SHARE: &str = "a share from 0 to 1, as 0.02";
const RATE: &str = "a rate from 8kbit to 100gbit, as 500kbit, 2mbit or 1gbit";

fn once<T>(
    part: &'static str,
    slot: &mut Option<T>,
    value: &str,
    must_be: &'static str,
    read: fn(&str) -> Option<T>,
) -> Result<(), ImpairmentError> {
    let wrong = || ImpairmentError::Value { part, value: value.to_owned(), must_be };
    match slot.replace(read(value).ok_or_else(wrong)?) {
        None => Ok(()),
        Some(_) => Err(ImpairmentError::Twice(part)),
    }
}

/// A number before a unit, times what the unit stands for.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    units.iter().find_map(|(unit, factor)| {
        let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
        Some(number * factor)
    })
}

fn time(text: &str) -> Option<Duration> {
    let seconds = scaled(text, &[("ms", 1e-3), ("s", 1.0)])?;
    (0.0..=Impairment::LONGEST.as_secs_f64())
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

fn share(text: &str) -> Option<u32> {
    let share: f64 = text.parse().ok()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    (0.0..=1.0).contains(&share).then(|| (share * f64::from(MILLION)).round() as u32)
}

fn bits(text: &str) -> Option<u64> {
    let bits = scaled(text, &[("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)])?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds"
    )]
    (8e3..=1e11).contains(&bits).then(|| bits.round() as u64)
}

impl fmt::Display for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(f, "delay={}ms,jitter={}ms", ms(self.delay), ms(self.jitter))?;
        write!(f, ",loss={}", f64::from(self.loss_ppm) / f64::from(MILLION))?;
        match self.rate_bps {
            Some(bps) if bps % 1000 == 0 => write!(f, ",rate={}kbit", bps / 1000),
            Some(bps) => write!(f, ",rate={}.{:03}kbit", bps / 1000, bps % 1000),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_are_read_in_any_order_and_any_unit() {
        let expected = Impairment {
            delay: Duration::from_millis(40),
            jitter: Duration::from_millis(5),
            loss_ppm: 20_000,
            rate_bps: Some(2_000_000),
        };
        for text in [
            "delay=40ms,jitter=5ms,loss=0.02,rate=2mbit",
            " rate = 2000kbit , loss=2e-2, delay=0.04s ,jitter=5 ms",
            "rate=0.002gbit,jitter=0.005s,delay=40.0ms,loss=.02",
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        assert_eq!(expected.to_string().parse(), Ok(expected));
        let delay = "delay=1s".parse::<Impairment>().map(|one| (one.delay, one.rate_bps));
        assert_eq!(delay, Ok((Duration::from_secs(1), None)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("", "names nothing"),
            ("delay", "\"delay\""),
            ("latency=3ms", "\"latency=3ms\""),
            ("delay=40ms,", "\"\""),
            ("delay=40", "delay=40: must be"),
            ("delay=-1ms", "delay=-1ms"),
            ("delay=11s", "delay=11s"),
            ("jitter=NaNms", "jitter=NaNms"),
            ("loss=2", "loss=2"),
            ("loss=2%", "loss=2%"),
            ("rate=1", "rate=1"),
            ("rate=1bit", "rate=1bit"),
            ("rate=infgbit", "rate=infgbit"),
            ("loss=0.1,loss=0.2", "loss is given twice"),
        ] {
            let error = text.parse::<Impairment>().expect_err(text).to_string();
            assert!(error.contains(named), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_retransmission_takes_200_ms_or_two_round_trips() {
        let after = |ms| Impairment { delay: Duration::from_millis(ms), ..Impairment::default() };
        assert_eq!(after(0).retransmission(), Duration::from_millis(200));
        assert_eq!(after(100).retransmission(), Duration::from_millis(400));
    }
}

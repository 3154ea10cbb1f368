//! Control exchanges over libp2p's request-response: CBOR in the strict profile, sizes limited.
//!
//! A request that does not decode reaches the driver as an error, not as a closed stream, so that
//! it can be counted and answered with words.

use std::{io, marker::PhantomData, time::Duration};

use arborcast_protocol::{
    codec::{self, DecodeError},
    limits, notice, path, report, session,
};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::{
    StreamProtocol,
    request_response::{self, ProtocolSupport},
};
use serde::{Serialize, de::DeserializeOwned};

/// `/arborcast/session/1`.
pub type Session = request_response::Behaviour<Cbor<session::Request, session::Answer>>;
/// `/arborcast/report/1`.
pub type Report = request_response::Behaviour<Cbor<report::Report, report::Answer>>;
/// `/arborcast/path/1`.
pub type Path = request_response::Behaviour<Cbor<path::Request, path::Answer>>;
/// `/arborcast/notice/1`.
pub type Notice = request_response::Behaviour<Cbor<notice::Notice, notice::Noted>>;

/// What one exchange may take: a member waits no longer for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(5);

/// Exchanges at once with one peer on one connection and protocol.
const CONCURRENT: usize = 32;

/// A behaviour for one protocol with our limits.
#[must_use]
pub fn behaviour<Req, Resp>(
    protocol: &'static str,
    support: ProtocolSupport,
) -> request_response::Behaviour<Cbor<Req, Resp>>
where
    Req: Serialize + DeserializeOwned + Send + Sync + 'static,
    Resp: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    request_response::Behaviour::with_codec(
        Cbor(PhantomData),
        [(StreamProtocol::new(protocol), support)],
        request_response::Config::default()
            .with_request_timeout(TIMEOUT)
            .with_max_concurrent_streams(CONCURRENT),
    )
}

/// Reads and writes one request and one answer, each until the end of its direction.
#[derive(Debug)]
pub struct Cbor<Req, Resp>(PhantomData<fn() -> (Req, Resp)>);

impl<Req, Resp> Clone for Cbor<Req, Resp> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<Req, Resp> request_response::Codec for Cbor<Req, Resp>
where
    Req: Serialize + DeserializeOwned + Send,
    Resp: Serialize + DeserializeOwned + Send,
{
    type Protocol = StreamProtocol;
    type Request = Result<Req, DecodeError>;
    type Response = Resp;

    async fn read_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
    ) -> io::Result<Result<Req, DecodeError>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = read(io, limits::CONTROL_REQUEST).await?;
        Ok(codec::decode(&bytes, limits::CONTROL_REQUEST))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Resp>
    where
        T: AsyncRead + Unpin + Send,
    {
        let bytes = read(io, limits::CONTROL_ANSWER).await?;
        if bytes.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the peer gave no answer"));
        }
        codec::decode(&bytes, limits::CONTROL_ANSWER)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    async fn write_request<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        request: Result<Req, DecodeError>,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request =
            request.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        write(io, &codec::encode(&request), limits::CONTROL_REQUEST).await
    }

    async fn write_response<T>(
        &mut self,
        _: &StreamProtocol,
        io: &mut T,
        answer: Resp,
    ) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &codec::encode(&answer), limits::CONTROL_ANSWER).await
    }
}

/// Reads to the end, but one byte past the limit at most: the decoder then says so.
async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io.take(limit as u64 + 1).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin + Send>(
    io: &mut T,
    bytes: &[u8],
    limit: usize,
) -> io::Result<()> {
    if bytes.len() > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            DecodeError::TooLarge { len: bytes.len(), limit },
        ));
    }
    io.write_all(bytes).await
}

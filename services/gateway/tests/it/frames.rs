//! HTTP/2 by hand, frame by frame (RFC 9113): what a library would keep from a test.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The last stream id of a GOAWAY, and its error code.
    pub(crate) fn last_stream(&self) -> (u32, u32) {
        let word = |at: usize| u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap());
        (word(0), word(4))
    }

    /// Whether nothing follows on its stream.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// One connection.
pub(crate) struct Frames(TcpStream);

impl Frames {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        stream.write_all(&preface).await?;
        Ok(Self(stream))
    }

    /// Connects and asks in one segment, and returns the connection with the request on its way.
    pub(crate) async fn connect_and_ask(address: SocketAddr, method: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat();
        bytes.extend(frame(HEADERS, END_HEADERS, 1, &request(method)));
        bytes.extend(frame(DATA, END_STREAM, 1, b"x"));
        stream.write_all(&bytes).await?;
        Ok(Self(stream))
    }

    /// Opens a stream, its body to follow.
    pub(crate) async fn open(&mut self, stream: u32, method: &str) {
        self.0.write_all(&frame(HEADERS, END_HEADERS, stream, &request(method))).await.unwrap();
    }

    pub(crate) async fn data(&mut self, stream: u32, data: &[u8], flags: u8) {
        self.0.write_all(&frame(DATA, flags, stream, data)).await.unwrap();
    }

    pub(crate) async fn pong(&mut self, ping: &Frame) {
        self.0.write_all(&frame(PING, ACK, 0, &ping.payload)).await.unwrap();
    }

    /// The next frame; `None` at the end of the connection. SETTINGS are acknowledged on the way.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut head = [0; 9];
            match self.0.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                other => drop(other?),
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await?;
            if head[3] != SETTINGS {
                return Ok(Some(Frame { kind: head[3], flags: head[4], stream, payload }));
            }
            if head[4] & ACK == 0 {
                self.0.write_all(&frame(SETTINGS, ACK, 0, &[])).await?;
            }
        }
    }

    /// The next frame of a kind; what comes before it is left unread.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().await.unwrap().unwrap();
            if wanted(&frame) {
                return frame;
            }
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a call in HPACK: indexed names, literal values, nothing remembered.
fn request(method: &str) -> Vec<u8> {
    let path = format!("/grpc.testing.TestService/{method}");
    // :method POST and :scheme http stand in the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(&[0x04][..], path.as_str()), (&[0x01], "gateway"), (&[0x0f, 0x10], "application/grpc")]
    {
        block.extend(name);
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value.as_bytes());
    }
    block
}

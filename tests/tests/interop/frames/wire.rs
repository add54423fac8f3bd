//! HTTP/2 frames as bytes (RFC 9113 §4.1, §6), so that a test can send what no library would.

use std::{collections::HashMap, io};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// What a client sends before its first frame.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const ACK: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const STREAM_CLOSED: u32 = 5;
pub(super) const CANCEL: u32 = 8;

const INITIAL_WINDOW: u16 = 4;

/// A frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Bytes>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    pub(super) fn data(stream: u32, payload: impl Into<Bytes>) -> Self {
        Self::new(DATA, 0, stream, payload)
    }

    /// DATA with so many bytes of padding.
    pub(super) fn padded(stream: u32, payload: &[u8], padding: u8) -> Self {
        let mut bytes = vec![padding];
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len() + usize::from(padding), 0);
        Self::new(DATA, PADDED, stream, bytes)
    }

    pub(super) fn headers(stream: u32, flags: u8, headers: &[(&str, &str)]) -> Self {
        Self::new(HEADERS, flags | END_HEADERS, stream, block(headers))
    }

    pub(super) fn reset(stream: u32, code: u32) -> Self {
        Self::new(RST_STREAM, 0, stream, code.to_be_bytes().to_vec())
    }

    pub(super) fn goaway(last: u32, code: u32) -> Self {
        Self::new(GOAWAY, 0, 0, [last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    pub(super) fn settings(settings: &[(u16, u32)]) -> Self {
        let mut payload = BytesMut::new();
        for (name, value) in settings {
            payload.put_u16(*name);
            payload.put_u32(*value);
        }
        Self::new(SETTINGS, 0, 0, payload)
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The error code of RST_STREAM or GOAWAY.
    pub(super) fn code(&self) -> u32 {
        self.payload.slice(if self.kind == GOAWAY { 4 } else { 0 }..).get_u32()
    }

    fn encode(&self, into: &mut BytesMut) {
        into.put_uint(self.payload.len() as u64, 3);
        into.put_u8(self.kind);
        into.put_u8(self.flags);
        into.put_u32(self.stream);
        into.put_slice(&self.payload);
    }
}

/// A header block of literals that are neither indexed nor Huffman-coded (RFC 7541 §6.2.2).
pub(super) fn block(headers: &[(&str, &str)]) -> Bytes {
    let mut block = BytesMut::new();
    for (name, value) in headers {
        block.put_u8(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.put_slice(text.as_bytes());
        }
    }
    block.freeze()
}

/// An integer with a prefix of seven bits (RFC 7541 §5.1).
fn integer(block: &mut BytesMut, mut value: usize) {
    if value < 127 {
        block.put_u8(value as u8);
        return;
    }
    block.put_u8(127);
    value -= 127;
    while value >= 128 {
        block.put_u8((value % 128 + 128) as u8);
        value /= 128;
    }
    block.put_u8(value as u8);
}

/// One side of a connection. Answers PING and SETTINGS while it reads, and keeps to the other side's windows where
/// [`Wire::flow`] sends.
pub(super) struct Wire {
    stream: TcpStream,
    buffer: BytesMut,
    initial_window: i64,
    connection_window: i64,
    windows: HashMap<u32, i64>,
    /// How many of its PINGs were answered.
    pub(super) pongs: usize,
}

impl Wire {
    /// The client's side: sends the preface and empty SETTINGS.
    pub(super) async fn connect(address: std::net::SocketAddr) -> Self {
        let mut wire = Self::over(TcpStream::connect(address).await.unwrap());
        wire.stream.write_all(PREFACE).await.unwrap();
        wire.send(&[Frame::settings(&[])]).await.unwrap();
        wire
    }

    /// The server's side: expects the preface and sends SETTINGS.
    pub(super) async fn accept(stream: TcpStream, settings: &[(u16, u32)]) -> io::Result<Self> {
        let mut wire = Self::over(stream);
        let mut preface = [0; PREFACE.len()];
        wire.stream.read_exact(&mut preface).await?;
        wire.send(&[Frame::settings(settings)]).await?;
        Ok(wire)
    }

    fn over(stream: TcpStream) -> Self {
        let buffer = BytesMut::new();
        let windows = HashMap::new();
        Self { stream, buffer, initial_window: 65_535, connection_window: 65_535, windows, pongs: 0 }
    }

    pub(super) async fn send(&mut self, frames: &[Frame]) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        self.stream.write_all(&bytes).await
    }

    /// Sends DATA as the other side's windows allow.
    pub(super) async fn flow(&mut self, frame: &Frame) -> io::Result<()> {
        let size = i64::try_from(frame.payload.len()).unwrap();
        while self.connection_window < size || self.window(frame.stream) < size {
            self.read().await?;
        }
        self.connection_window -= size;
        *self.windows.entry(frame.stream).or_default() -= size;
        self.send(std::slice::from_ref(frame)).await
    }

    /// What is left of the window of a stream.
    fn window(&self, stream: u32) -> i64 {
        self.initial_window + self.windows.get(&stream).copied().unwrap_or_default()
    }

    /// The next frame.
    ///
    /// # Errors
    /// When the other side has closed the connection.
    pub(super) async fn read(&mut self) -> io::Result<Frame> {
        let length = loop {
            if let Some(header) = self.buffer.get(..9) {
                let length = (&header[..3]).get_uint(3) as usize;
                if self.buffer.len() >= 9 + length {
                    break length;
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        let mut header = self.buffer.split_to(9).freeze();
        header.advance(3);
        let (kind, flags, stream) = (header.get_u8(), header.get_u8(), header.get_u32());
        let frame = Frame { kind, flags, stream, payload: self.buffer.split_to(length).freeze() };
        self.note(&frame).await?;
        Ok(frame)
    }

    async fn note(&mut self, frame: &Frame) -> io::Result<()> {
        match frame.kind {
            SETTINGS if !frame.has(ACK) => {
                let mut settings = frame.payload.clone();
                while settings.has_remaining() {
                    let (name, value) = (settings.get_u16(), settings.get_u32());
                    if name == INITIAL_WINDOW {
                        self.initial_window = i64::from(value);
                    }
                }
                self.send(&[Frame::new(SETTINGS, ACK, 0, Bytes::new())]).await
            }
            PING if frame.has(ACK) => {
                self.pongs += 1;
                Ok(())
            }
            PING => self.send(&[Frame::new(PING, ACK, 0, frame.payload.clone())]).await,
            WINDOW_UPDATE => {
                let more = i64::from(frame.payload.clone().get_u32());
                match frame.stream {
                    0 => self.connection_window += more,
                    stream => *self.windows.entry(stream).or_default() += more,
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Reads until a frame of this kind comes.
    pub(super) async fn until(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Ok(frame);
            }
        }
    }

    /// Reads until a request is whole; its stream.
    pub(super) async fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.read().await?;
            if matches!(frame.kind, DATA | HEADERS) && frame.has(END_STREAM) {
                return Ok(frame.stream);
            }
        }
    }

    /// Hides the rest of a connection's life: reads until the other side closes it.
    pub(super) async fn drain(&mut self) -> io::Result<()> {
        loop {
            self.read().await?;
        }
    }
}

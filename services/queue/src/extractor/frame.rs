//! The language between the extractor pool and its children: length-prefixed frames over standard input and output.
//!
//! A request is two frames, the [`Request`] as JSON and the document's bytes; an answer is one, the [`Answer`] as JSON.
//! A length is 4 bytes, big-endian.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What the document is said to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its path, for the ending.
    pub path: String,
    /// Its media type; may be empty.
    pub content_type: String,
    /// The length a chunk aims at, in characters.
    pub chunk_chars: usize,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Its text in pieces.
    Chunks(Vec<Chunk>),
    /// It is not what it says, or nothing that text can be had of; why, for people.
    Refused(String),
}

/// A piece of a document's text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The heading it stands under; empty when none.
    pub heading: String,
    /// The text.
    pub text: String,
}

/// Reads one frame; `None` at a clean end.
///
/// # Errors
/// When the input breaks, or a frame is longer than `limit`.
pub fn read(input: &mut impl Read, limit: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let mut frame = vec![0; checked(length, limit)?];
    input.read_exact(&mut frame)?;
    Ok(Some(frame))
}

/// Writes one frame.
///
/// # Errors
/// When the output breaks, or the frame is longer than 4 GiB.
pub fn write(output: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    output.write_all(&prefix(frame)?)?;
    output.write_all(frame)?;
    output.flush()
}

/// Reads one frame.
///
/// # Errors
/// When the input ends or breaks, or the frame is longer than `limit`.
pub async fn receive(input: &mut (impl AsyncRead + Unpin), limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    input.read_exact(&mut length).await?;
    let mut frame = vec![0; checked(length, limit)?];
    input.read_exact(&mut frame).await?;
    Ok(frame)
}

/// Writes one frame.
///
/// # Errors
/// When the output breaks, or the frame is longer than 4 GiB.
pub async fn send(output: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    output.write_all(&prefix(frame)?).await?;
    output.write_all(frame).await?;
    output.flush().await
}

fn checked(length: [u8; 4], limit: usize) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?;
    if length > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
    }
    Ok(length)
}

fn prefix(frame: &[u8]) -> io::Result<[u8; 4]> {
    u32::try_from(frame.len()).map(u32::to_be_bytes).map_err(io::Error::other)
}

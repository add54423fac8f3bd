//! Text: UTF-8 throughout, without zero bytes, and not a page where a script or style sheet is announced.

use std::io::Read;

use super::{ContentError, Family};

const CHUNK_BYTES: usize = 64 * 1024;

/// Reads text to its end.
pub(super) fn check(mut reader: impl Read, head: &[u8], family: Family) -> Result<(), ContentError> {
    if matches!(family, Family::Js | Family::Css) && is_page(head) {
        return Err(ContentError::Mismatch("the bytes are an HTML page".into()));
    }
    if family == Family::Svg
        && !contains(head, b"<svg")
        && !contains(head, b"<!DOCTYPE svg")
        && !contains(head, b":svg")
    {
        return Err(ContentError::Mismatch(
            "the bytes are not SVG: no svg element at their beginning".into(),
        ));
    }
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut kept, mut offset) = (0, 0_usize);
    loop {
        let read = reader.read(&mut buffer[kept..])?;
        let filled = kept + read;
        let chunk = &buffer[..filled];
        if let Some(at) = chunk.iter().position(|byte| *byte == 0) {
            return Err(not_text(offset + at));
        }
        let valid = match std::str::from_utf8(chunk) {
            Ok(_) => filled,
            Err(e) if e.error_len().is_none() && read > 0 => e.valid_up_to(),
            Err(e) => return Err(not_text(offset + e.valid_up_to())),
        };
        if read == 0 {
            return Ok(());
        }
        buffer.copy_within(valid..filled, 0);
        kept = filled - valid;
        offset += valid;
    }
}

fn not_text(at: usize) -> ContentError {
    ContentError::Mismatch(format!("the bytes are not UTF-8 text at byte {at}"))
}

fn is_page(head: &[u8]) -> bool {
    let start = head.iter().position(|b| !b.is_ascii_whitespace()).map_or(&head[..0], |at| &head[at..]);
    [&b"<!doctype html"[..], b"<html", b"<head", b"<body"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag)))
}

fn contains(head: &[u8], needle: &[u8]) -> bool {
    head.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

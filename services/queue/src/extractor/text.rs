//! Text out of bytes: what kind of document it is, and whether it is that.

mod html;

use std::path::Path;

/// The text of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// How it is structured.
    pub markup: Markup,
    /// The text.
    pub content: String,
}

/// How a text is structured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// Markdown: headings count.
    Markdown,
    /// Anything else: prose, source code, data.
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Markdown,
    Html,
    Plain,
}

/// Beginnings of files that are no text, and what they are. Longer ones first where one begins another.
const SIGNATURES: [(&[u8], &str); 22] = [
    (b"%PDF-", "a PDF document"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"RIFF", "a RIFF file (WebP, WAV or AVI)"),
    (b"PK\x03\x04", "a ZIP archive or an office document"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x28\xb5\x2f\xfd", "zstd data"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\x00", "xz data"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"\x7fELF", "an ELF program"),
    (b"\0asm", "a WebAssembly module"),
    (b"MZ\x90", "a Windows program"),
    (b"\xca\xfe\xba\xbe", "a Java class or a Mach-O program"),
    (b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a legacy office document"),
    (b"{\\rtf", "an RTF document"),
    (b"OggS", "an Ogg file"),
    (b"ID3", "an MP3 file"),
];

/// The text of a document.
///
/// # Errors
/// Why there is none, for people: what the bytes are instead, or where they stop being text.
pub fn extract(path: &str, content_type: &str, bytes: &[u8]) -> Result<Text, String> {
    if let Some(what) = signature(bytes) {
        return Err(format!("the file is {what}; only text, Markdown, HTML and source code can be read"));
    }
    let kind = kind(path, content_type)?;
    let content = decode(bytes)?;
    Ok(match kind {
        Kind::Markdown => Text { markup: Markup::Markdown, content },
        Kind::Plain => Text { markup: Markup::Plain, content },
        Kind::Html => Text { markup: Markup::Markdown, content: html::to_markdown(&content) },
    })
}

fn signature(bytes: &[u8]) -> Option<&'static str> {
    SIGNATURES.iter().find(|(start, _)| bytes.starts_with(start)).map(|(_, what)| *what)
}

/// The ending decides, and the media type where it says nothing. What neither knows is read as plain text if it is text.
fn kind(path: &str, content_type: &str) -> Result<Kind, String> {
    let ending = Path::new(path).extension().map(|ending| ending.to_string_lossy().to_lowercase());
    match ending.as_deref() {
        Some("md" | "markdown" | "mdown" | "mkd" | "mdx" | "rmd") => return Ok(Kind::Markdown),
        Some("html" | "htm" | "xhtml") => return Ok(Kind::Html),
        _ => {}
    }
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "text/markdown" | "text/x-markdown" => Ok(Kind::Markdown),
        "text/html" | "application/xhtml+xml" => Ok(Kind::Html),
        "application/pdf" | "application/zip" | "application/gzip" => Err(unsupported(&essence)),
        // SVG is XML, and TypeScript's ending is known to some as a video's.
        "image/svg+xml" | "video/mp2t" | "video/vnd.dlna.mpeg-tts" => Ok(Kind::Plain),
        _ if ["image/", "audio/", "video/", "font/"].iter().any(|class| essence.starts_with(class)) => {
            Err(unsupported(&essence))
        }
        _ => Ok(Kind::Plain),
    }
}

fn unsupported(essence: &str) -> String {
    format!("documents of type {essence} cannot be read; only text, Markdown, HTML and source code can")
}

fn decode(bytes: &[u8]) -> Result<String, String> {
    if let Some(rest) = bytes.strip_prefix(b"\xff\xfe") {
        return decode_utf16(rest, u16::from_le_bytes);
    }
    if let Some(rest) = bytes.strip_prefix(b"\xfe\xff") {
        return decode_utf16(rest, u16::from_be_bytes);
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if let Some(offset) = bytes.iter().position(|byte| *byte == 0) {
        return Err(format!("the file is binary, not text: there is a NUL byte at offset {offset}"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(error) => Err(format!(
            "the file is not UTF-8 text: there is an invalid byte at offset {}",
            error.valid_up_to()
        )),
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, String> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let text: Result<String, _> = char::decode_utf16(pairs.iter().copied().map(unit)).collect();
    match text {
        Ok(text) if rest.is_empty() && !text.contains('\0') => Ok(text),
        _ => Err("the file begins like UTF-16 text but is not".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(path: &str, content_type: &str, bytes: &[u8]) -> String {
        extract(path, content_type, bytes).expect_err(path)
    }

    #[test]
    fn what_is_not_what_it_says_is_refused_with_the_reason() {
        assert!(refused("a.md", "text/markdown", b"%PDF-1.7 ...").contains("is a PDF document"));
        assert!(refused("a.txt", "", b"\x89PNG\r\n\x1a\n....").contains("is a PNG image"));
        assert!(refused("a.rs", "text/x-rust", b"fn main\0").contains("NUL byte at offset 7"));
        assert!(refused("a.md", "", b"caf\xe9 au lait").contains("invalid byte at offset 3"));
        assert!(refused("a.bin", "image/webp", b"text").contains("image/webp"));
        assert!(refused("a.txt", "", b"\xff\xfea").contains("UTF-16"));
    }

    #[test]
    fn kinds_follow_the_ending_then_the_media_type() {
        assert_eq!(kind("notes/README.MD", "application/octet-stream"), Ok(Kind::Markdown));
        assert_eq!(kind("page", "text/html; charset=utf-8"), Ok(Kind::Html));
        assert_eq!(kind("app.ts", "video/mp2t"), Ok(Kind::Plain));
        assert_eq!(kind("Makefile", ""), Ok(Kind::Plain));
    }

    #[test]
    fn byte_order_marks_are_understood() {
        let plain = |content: &str| Text { markup: Markup::Plain, content: content.to_owned() };
        assert_eq!(extract("a.txt", "", b"\xef\xbb\xbfhello"), Ok(plain("hello")));
        assert_eq!(extract("a.txt", "", b"\xff\xfeh\0i\0"), Ok(plain("hi")));
        assert_eq!(extract("a.txt", "", b""), Ok(plain("")));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(path in "[a-z]{1,4}\\.(md|html|txt|rs)", bytes: Vec<u8>) {
            let _ = extract(&path, "", &bytes);
        }
    }
}

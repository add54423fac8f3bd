//! Media types: parsed, guessed from names, and what follows from them.

use std::fmt;

use super::Magic;
use crate::optimize;

/// Longest media type, parameters included.
const MAX_BYTES: usize = 200;

/// A media type with its parameters, essence in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaType {
    essence: String,
    /// From the first `;` on, or empty.
    parameters: String,
}

/// What a media type means to this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Scripts.
    Js,
    /// Style sheets.
    Css,
    /// PNG images.
    Png,
    /// JPEG images.
    Jpeg,
    /// SVG, which is a document that may run scripts.
    Svg,
    /// HTML, likewise.
    Html,
    /// Other XML, likewise, since it may hold the former two.
    Xml,
    /// JSON and its kin.
    Json,
    /// Other text.
    Text,
    /// Known by the bytes at its beginning.
    Known(&'static [Magic]),
    /// Anything.
    Opaque,
}

/// Formats that begin with certain bytes.
const KNOWN: &[(&str, &[Magic])] = &[
    ("image/gif", &[Magic::at(0, b"GIF87a"), Magic::at(0, b"GIF89a")]),
    ("image/webp", &[Magic::at(8, b"WEBP")]),
    ("image/avif", &[Magic::at(4, b"ftyp")]),
    ("image/bmp", &[Magic::at(0, b"BM")]),
    ("image/x-icon", &[Magic::at(0, b"\0\0\x01\0"), Magic::at(0, b"\0\0\x02\0")]),
    ("image/vnd.microsoft.icon", &[Magic::at(0, b"\0\0\x01\0"), Magic::at(0, b"\0\0\x02\0")]),
    ("image/tiff", &[Magic::at(0, b"II*\0"), Magic::at(0, b"MM\0*")]),
    ("application/pdf", &[Magic::at(0, b"%PDF-")]),
    ("application/zip", &[Magic::at(0, b"PK")]),
    ("application/gzip", &[Magic::at(0, b"\x1f\x8b")]),
    ("application/wasm", &[Magic::at(0, b"\0asm")]),
    ("font/woff", &[Magic::at(0, b"wOFF")]),
    ("font/woff2", &[Magic::at(0, b"wOF2")]),
    ("font/ttf", &[Magic::at(0, b"\0\x01\0\0"), Magic::at(0, b"true")]),
    ("font/otf", &[Magic::at(0, b"OTTO")]),
    ("video/mp4", &[Magic::at(4, b"ftyp")]),
    ("video/webm", &[Magic::at(0, b"\x1a\x45\xdf\xa3")]),
    ("audio/ogg", &[Magic::at(0, b"OggS")]),
    ("video/ogg", &[Magic::at(0, b"OggS")]),
    ("audio/wav", &[Magic::at(8, b"WAVE")]),
];

const PNG: &[Magic] = &[Magic::at(0, b"\x89PNG\r\n\x1a\n")];
const JPEG: &[Magic] = &[Magic::at(0, b"\xff\xd8\xff")];

/// Names of source code that the registry of media types knows as something else, or not at all.
const SOURCE_CODE: &[&str] = &[
    "ts", "tsx", "mts", "cts", "jsx", "vue", "svelte", "rs", "go", "py", "rb", "java", "kt", "c", "h", "cc",
    "cpp", "hpp", "cs", "swift", "scala", "php", "pl", "lua", "sh", "bash", "zsh", "sql", "toml", "yaml",
    "yml", "ini", "cfg", "conf", "env", "proto", "graphql", "tf", "r", "m", "ex", "exs", "erl", "hs", "ml",
    "clj", "dart", "zig", "nix", "lock", "adoc", "rst", "tex", "log", "diff", "patch", "txt", "text",
];

impl MediaType {
    /// Parses one, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > MAX_BYTES {
            return Err("longer than 200 bytes");
        }
        if text.bytes().any(|b| !(b' '..=b'~').contains(&b)) {
            return Err("not printable ASCII");
        }
        let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
        let essence = essence.trim().to_ascii_lowercase();
        let is_token = |part: &str| !part.is_empty() && part.bytes().all(is_token_byte);
        match essence.split_once('/') {
            Some((kind, subtype)) if is_token(kind) && is_token(subtype) => {}
            _ => return Err("not of the form type/subtype"),
        }
        let parameters = match parameters.trim() {
            "" => String::new(),
            some => format!("; {some}"),
        };
        Ok(Self { essence, parameters })
    }

    /// Guesses one from a file's name; source code is plain text, what nobody knows is `application/octet-stream`.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let extension =
            name.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_ascii_lowercase());
        let essence = match extension.as_str() {
            "md" | "markdown" => "text/markdown".into(),
            "js" | "mjs" | "cjs" => "text/javascript".into(),
            "webmanifest" => "application/manifest+json".into(),
            source if SOURCE_CODE.contains(&source) => "text/plain".into(),
            _ => mime_guess::from_path(name).first_or_octet_stream().essence_str().to_owned(),
        };
        Self { essence, parameters: String::new() }
    }

    /// Type and subtype, without parameters.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// The part before the slash.
    #[must_use]
    pub fn top_level(&self) -> &str {
        self.essence.split('/').next().unwrap_or_default()
    }

    /// Whether it is what servers send for what they do not know.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.essence == "application/octet-stream" || self.essence == "binary/octet-stream"
    }

    /// What it means here.
    #[must_use]
    pub fn family(&self) -> Family {
        match self.essence.as_str() {
            "text/javascript"
            | "application/javascript"
            | "application/x-javascript"
            | "text/ecmascript"
            | "application/ecmascript" => Family::Js,
            "text/css" => Family::Css,
            "image/png" => Family::Png,
            "image/jpeg" | "image/jpg" => Family::Jpeg,
            "image/svg+xml" => Family::Svg,
            "text/html" | "application/xhtml+xml" => Family::Html,
            "application/json" => Family::Json,
            "application/x-ndjson" | "application/yaml" | "application/toml" | "application/sql" => {
                Family::Text
            }
            "text/xml" | "application/xml" => Family::Xml,
            json if json.ends_with("+json") => Family::Json,
            xml if xml.ends_with("+xml") => Family::Xml,
            text if text.starts_with("text/") => Family::Text,
            other => KNOWN
                .iter()
                .find(|(essence, _)| *essence == other)
                .map_or(Family::Opaque, |(_, m)| Family::Known(m)),
        }
    }

    /// Whether its text is UTF-8: unless it says otherwise.
    #[must_use]
    pub fn is_utf8(&self) -> bool {
        let charset = self.parameters.to_ascii_lowercase();
        let charset = charset.split("charset=").nth(1).map(|rest| rest.trim_start_matches('"'));
        charset.is_none_or(|charset| charset.starts_with("utf-8") || charset.starts_with("us-ascii"))
    }

    /// As in `Content-Type`: text says that it is UTF-8.
    #[must_use]
    pub fn header(&self) -> String {
        let says_nothing = !self.parameters.to_ascii_lowercase().contains("charset=");
        if self.essence.starts_with("text/") && says_nothing {
            format!("{}{}; charset=utf-8", self.essence, self.parameters)
        } else {
            self.to_string()
        }
    }

    /// Which optimizer is for it.
    #[must_use]
    pub fn optimizer(&self) -> Option<optimize::Kind> {
        match self.family() {
            Family::Js if self.is_utf8() => Some(optimize::Kind::Js),
            Family::Css if self.is_utf8() => Some(optimize::Kind::Css),
            Family::Png => Some(optimize::Kind::Png),
            Family::Jpeg => Some(optimize::Kind::Jpeg),
            _ => None,
        }
    }

    /// Whether content codings make it smaller: text, and what is known not to be compressed already.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        let raw = [
            "application/wasm",
            "font/ttf",
            "font/otf",
            "image/bmp",
            "image/x-icon",
            "image/vnd.microsoft.icon",
        ];
        self.family().is_text() || raw.contains(&self.essence.as_str())
    }

    /// Whether it is data of an API, which caches must ask about each time.
    #[must_use]
    pub fn is_api_data(&self) -> bool {
        let other =
            ["application/x-ndjson", "text/event-stream", "application/x-protobuf", "application/cbor"];
        self.family() == Family::Json
            || matches!(self.essence.as_str(), "application/xml" | "text/xml")
            || other.contains(&self.essence.as_str())
            || self.essence.starts_with("application/grpc")
    }

    /// Whether a browser may run scripts in it that it shows as a page.
    #[must_use]
    pub fn is_active(&self) -> bool {
        matches!(self.family(), Family::Html | Family::Svg | Family::Xml)
    }
}

impl Family {
    /// Whether it is text.
    #[must_use]
    pub fn is_text(self) -> bool {
        match self {
            Self::Js | Self::Css | Self::Svg | Self::Html | Self::Xml | Self::Json | Self::Text => true,
            Self::Png | Self::Jpeg | Self::Known(_) | Self::Opaque => false,
        }
    }

    pub(super) fn magic(self) -> Option<&'static [Magic]> {
        match self {
            Self::Png => Some(PNG),
            Self::Jpeg => Some(JPEG),
            Self::Known(magic) => Some(magic),
            _ => None,
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.essence, self.parameters)
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_are_parsed_or_refused() {
        assert_eq!(
            MediaType::parse("Text/HTML ;charset=UTF-8").unwrap().to_string(),
            "text/html; charset=UTF-8"
        );
        for bad in ["text", "/", "a/", "/b", "a b/c", "text/html\r\nx: y", "téxt/plain", &"a/".repeat(101)] {
            assert!(MediaType::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_are_guessed() {
        for (name, expected) in [
            ("a.js", "text/javascript"),
            ("a.CSS", "text/css"),
            ("photo.jpeg", "image/jpeg"),
            ("notes.md", "text/markdown"),
            ("code.ts", "text/plain"),
            ("lib.rs", "text/plain"),
            ("data.json", "application/json"),
            ("none", "application/octet-stream"),
            ("a.svg", "image/svg+xml"),
        ] {
            assert_eq!(MediaType::of_name(name).to_string(), expected, "{name}");
        }
    }

    #[test]
    fn text_says_its_charset() {
        let header = |text: &str| MediaType::parse(text).unwrap().header();
        assert_eq!(header("text/css"), "text/css; charset=utf-8");
        assert_eq!(header("text/plain; charset=iso-8859-1"), "text/plain; charset=iso-8859-1");
        assert_eq!(header("image/png"), "image/png");
        assert_eq!(header("application/json"), "application/json");
    }
}

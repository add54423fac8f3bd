//! Checking what an upload says of itself.

use weft_proto::assets::v1 as pb;

use crate::{
    catalog::{NewAsset, Visibility},
    content::MediaType,
    error::Error,
    upload::Received,
};

const MAX_NAME_BYTES: usize = 255;
const MAX_TAGS: usize = 16;
const MAX_TAG_BYTES: usize = 64;
const MAX_ID_BYTES: usize = 128;

/// An id as given; what cannot be one is refused, what is none is not found later.
pub(super) fn id(id: String) -> Result<String, Error> {
    match id.len() {
        0 => Err(Error::invalid("id", "is empty")),
        1..=MAX_ID_BYTES => Ok(id),
        length => Err(Error::invalid("id", format!("has {length} bytes; an id has 64"))),
    }
}

/// Checks everything that can be checked before the bytes come.
pub(super) fn decode(header: &pb::AssetHeader, owner: String) -> Result<NewAsset, Error> {
    name(&header.name)?;
    tags(&header.tags)?;
    let media_type = if header.content_type.is_empty() {
        MediaType::of_name(&header.name)
    } else {
        MediaType::parse(&header.content_type).map_err(|problem| Error::invalid("content_type", problem))?
    };
    let visibility = match pb::Visibility::try_from(header.visibility) {
        Ok(pb::Visibility::Public) => Visibility::Public,
        Ok(pb::Visibility::Private | pb::Visibility::Unspecified) => Visibility::Private,
        Err(_) => return Err(Error::invalid("visibility", format!("{} is none", header.visibility))),
    };
    Ok(NewAsset { owner, name: header.name.clone(), media_type, visibility, tags: header.tags.clone() })
}

/// Checks what is announced of the bytes.
pub(super) fn check_announced(header: &pb::AssetHeader, limit: u64) -> Result<(), Error> {
    if let Some(size) = header.size_bytes
        && size > limit
    {
        return Err(Error::invalid("size_bytes", format!("{size} is more than the {limit} bytes allowed")));
    }
    let is_hex = header.blake3.bytes().all(|b| b.is_ascii_hexdigit());
    if !header.blake3.is_empty() && (header.blake3.len() != 64 || !is_hex) {
        return Err(Error::invalid("blake3", "must be 64 hex digits"));
    }
    Ok(())
}

/// Compares what has come with what was announced.
pub(super) fn check_received(header: &pb::AssetHeader, received: &Received) -> Result<(), Error> {
    if let Some(size) = header.size_bytes
        && size != received.size
    {
        return Err(Error::invalid("size_bytes", format!("{size} announced, {} received", received.size)));
    }
    if !header.blake3.is_empty() && !header.blake3.eq_ignore_ascii_case(&received.id) {
        return Err(Error::invalid("blake3", format!("the bytes received have {}", received.id)));
    }
    Ok(())
}

fn name(name: &str) -> Result<(), Error> {
    let problem = match name {
        "" => "is empty",
        "." | ".." => "is a folder's name",
        _ if name.len() > MAX_NAME_BYTES => "is longer than 255 bytes",
        _ if name.contains('/') => "contains a slash",
        _ if name.chars().any(char::is_control) => "contains a control character",
        _ => return Ok(()),
    };
    Err(Error::invalid("name", problem))
}

fn tags(tags: &[String]) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid("tags", format!("{} are more than {MAX_TAGS}", tags.len())));
    }
    for tag in tags {
        if !(1..=MAX_TAG_BYTES).contains(&tag.len()) {
            return Err(Error::invalid("tags", format!("{tag:?} has not 1 to {MAX_TAG_BYTES} bytes")));
        }
        if tag.chars().any(char::is_control) {
            return Err(Error::invalid("tags", format!("{tag:?} contains a control character")));
        }
    }
    Ok(())
}

//! What requests may hold: every violated limit is named with its field, all of them at once.

use weft_mesh::{context::is_user_name, error::FieldViolation};

use crate::error::Error;

/// Ids in one batch.
pub const BATCH: usize = 256;
/// Dimensions of an embedding.
pub const DIMENSIONS: usize = 4096;

/// Collects what is wrong with a request.
#[derive(Debug, Default)]
pub struct Checks {
    violations: Vec<FieldViolation>,
}

impl Checks {
    /// Nothing is wrong so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Requires a condition.
    pub fn require(&mut self, holds: bool, field: &str, description: impl Into<String>) -> &mut Self {
        if !holds {
            self.violations.push(FieldViolation::new(field, description));
        }
        self
    }

    /// A text of at most so many characters.
    pub fn chars(&mut self, field: &str, text: &str, most: usize) -> &mut Self {
        let length = text.chars().count();
        self.require(length <= most, field, format!("must have at most {most} characters, has {length}"));
        self.no_nul(field, text)
    }

    /// A text of so many bytes.
    pub fn bytes(&mut self, field: &str, text: &str, range: std::ops::RangeInclusive<usize>) -> &mut Self {
        let (least, most) = (range.start(), range.end());
        let text_is = format!("must have {least} to {most} bytes, has {}", text.len());
        self.require(range.contains(&text.len()), field, text_is);
        self.no_nul(field, text)
    }

    /// An id: 1 to `most` bytes of printable ASCII without spaces.
    pub fn id(&mut self, field: &str, id: &str, most: usize) -> &mut Self {
        let fits = (1..=most).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        let text = format!("must be 1 to {most} bytes of printable ASCII without spaces");
        self.require(fits, field, text)
    }

    /// The name of a user.
    pub fn user(&mut self, field: &str, name: &str) -> &mut Self {
        let text = "must be 1 to 128 bytes of printable ASCII without spaces";
        self.require(is_user_name(name), field, text)
    }

    /// 1 to 256 ids.
    pub fn ids(&mut self, field: &str, ids: &[String]) -> &mut Self {
        let text = format!("must be 1 to {BATCH} ids, are {}", ids.len());
        self.require((1..=BATCH).contains(&ids.len()), field, text);
        for (index, id) in ids.iter().enumerate().take(BATCH) {
            self.id(&format!("{field}[{index}]"), id, 128);
        }
        self
    }

    /// A text without control characters.
    pub fn no_control(&mut self, field: &str, text: &str) -> &mut Self {
        self.require(!text.chars().any(char::is_control), field, "must not hold control characters")
    }

    /// PostgreSQL cannot store U+0000 in a text; neither database shall.
    fn no_nul(&mut self, field: &str, text: &str) -> &mut Self {
        self.require(!text.contains('\0'), field, "must not hold the character U+0000")
    }

    /// Ends the checks.
    ///
    /// # Errors
    /// When something is wrong.
    pub fn finish(&mut self) -> Result<(), Error> {
        let violations = std::mem::take(&mut self.violations);
        if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
    }
}

/// Reads an idempotency key: 1 to 200 bytes, unset means none.
///
/// # Errors
/// When it is too long.
pub fn idempotency_key(key: String) -> Result<Option<String>, Error> {
    Checks::new().bytes("idempotency_key", &key, 0..=200).finish()?;
    Ok(Some(key).filter(|key| !key.is_empty()))
}

/// Reads an embedding: little-endian float32, 1 to 4096 of them, of length 1; or all zero, for a text without words.
///
/// # Errors
/// Names the field and what is wrong with it.
pub fn embedding(field: &str, bytes: &[u8]) -> Result<Vec<f32>, Error> {
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || !(1..=DIMENSIONS).contains(&floats.len()) {
        let text = format!("must be 1 to {DIMENSIONS} float32, is {} bytes", bytes.len());
        return Err(Error::invalid(field, text));
    }
    let vector: Vec<f32> = floats.iter().map(|float| f32::from_le_bytes(*float)).collect();
    let square: f32 = vector.iter().map(|value| value * value).sum();
    // Not a number fails this too.
    if square == 0.0 || (square - 1.0).abs() <= 0.02 {
        return Ok(vector);
    }
    Err(Error::invalid(field, format!("must be L2-normalised, has length {}", square.sqrt())))
}

#[cfg(test)]
mod tests {
    use weft_mesh::error::Classify;

    use super::*;

    fn raw(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    #[test]
    fn every_violation_is_named() {
        let error = Checks::new()
            .chars("title", &"ä".repeat(501), 500)
            .bytes("content", "", 1..=10)
            .id("chat_id", "a b", 128)
            .user("id", "ünal")
            .ids("ids", &[])
            .no_control("path", "a\nb")
            .chars("text", "a\0b", 10)
            .finish()
            .unwrap_err();
        let fields: Vec<_> = error.fields().into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["title", "content", "chat_id", "id", "ids", "path", "text"]);
        assert!(
            Checks::new().chars("title", &"ä".repeat(500), 500).ids("ids", &["a".into()]).finish().is_ok()
        );
    }

    #[test]
    fn embeddings_are_whole_floats_of_length_one() {
        assert_eq!(embedding("e", &raw(&[0.6, 0.8])).unwrap(), [0.6, 0.8]);
        assert_eq!(embedding("e", &raw(&[0.0, 0.0])).unwrap(), [0.0, 0.0]);
        for bad in [&[][..], &[1, 2, 3], &raw(&[1.0, 1.0]), &raw(&[f32::NAN, 0.0]), &raw(&[f32::INFINITY])] {
            assert!(embedding("e", bad).unwrap_err().to_string().starts_with("e: "), "{bad:?}");
        }
        assert!(embedding("e", &vec![0; 4 * (DIMENSIONS + 1)]).is_err());
    }
}

//! The media type of a document, by its name.

use std::path::Path;

use super::walk::text_like;

/// What is said of a file's bytes. Source code is text, whatever else its extension may stand for: `.ts` is TypeScript
/// here and not a video.
pub(super) fn media_type(path: &Path) -> String {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension.to_ascii_lowercase().as_str() {
        "md" | "markdown" | "mdx" => return "text/markdown".to_owned(),
        "html" | "htm" | "xhtml" => return "text/html".to_owned(),
        _ => {}
    }
    let guess = mime_guess::from_path(path).first();
    match guess {
        Some(guess) if guess.type_() == "text" || !text_like(path) => guess.essence_str().to_owned(),
        None if !text_like(path) => "application/octet-stream".to_owned(),
        _ => "text/plain".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_the_rest_is_what_it_says() {
        for (name, media) in [
            ("a.md", "text/markdown"),
            ("a.HTM", "text/html"),
            ("a.txt", "text/plain"),
            ("main.rs", "text/x-rust"),
            ("app.ts", "text/plain"),
            ("tool.sh", "text/plain"),
            ("photo.jpg", "image/jpeg"),
            ("paper.pdf", "application/pdf"),
            ("Makefile", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(media_type(Path::new(name)), media, "{name}");
        }
    }
}

//! What is taken from a folder, and what each document is called.

use std::fs;

use super::*;

fn folder(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    folder
}

fn documents(cwd: &Path, paths: &[&str], selection: Selection) -> Vec<String> {
    let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
    walk(cwd, &paths, selection).unwrap().found.into_iter().map(|found| found.document).collect()
}

#[test]
fn folders_give_text_and_skip_what_is_hidden_or_made_by_machines() {
    let folder = folder(&[
        "README.md",
        "docs/b.TXT",
        "docs/a.html",
        "src/main.rs",
        "logo.png",
        ".git/config.md",
        ".hidden.md",
        "target/doc/index.html",
        "web/node_modules/x/readme.md",
        "no_extension",
    ]);
    let text = documents(folder.path(), &["."], Selection::TextLike);
    assert_eq!(text, ["README.md", "docs/a.html", "docs/b.TXT", "src/main.rs"]);
    let all = documents(folder.path(), &["."], Selection::All);
    assert_eq!(all, ["README.md", "docs/a.html", "docs/b.TXT", "logo.png", "no_extension", "src/main.rs"]);
}

#[test]
fn a_file_named_by_itself_is_taken_whatever_it_is() {
    let folder = folder(&[".env.md", "logo.png", "target/a.md"]);
    let named = documents(folder.path(), &["logo.png", ".env.md", "target"], Selection::TextLike);
    assert_eq!(named, [".env.md", "logo.png", "target/a.md"]);
}

#[test]
fn a_document_has_one_name_however_its_folder_was_named() {
    let folder = folder(&["docs/a.md"]);
    let absolute = folder.path().to_str().unwrap();
    for given in ["docs", "./docs/", "docs/../docs", "docs/a.md", ".", absolute] {
        assert_eq!(documents(folder.path(), &[given], Selection::TextLike), ["docs/a.md"], "{given}");
    }
    assert_eq!(documents(folder.path(), &["docs", ".", "docs/a.md"], Selection::TextLike), ["docs/a.md"]);
}

#[test]
fn what_lies_outside_keeps_the_path_it_was_given() {
    let cwd = Path::new("/home/ada/work");
    let name = |path: &str| document_path(cwd, Path::new(path)).unwrap();
    assert_eq!(name("../notes/./a.md"), "../notes/a.md");
    assert_eq!(name("../../a.md"), "../../a.md");
    assert_eq!(name("/srv/docs/../a.md"), "/srv/a.md");
    assert_eq!(name("/../a.md"), "/a.md");
    assert_eq!(name("/home/ada/workshop/a.md"), "/home/ada/workshop/a.md");
}

#[test]
fn paths_that_do_not_exist_are_all_named() {
    let folder = folder(&["a.md"]);
    let paths = ["a.md", "b.md", "c"].map(PathBuf::from);
    let complaints = walk(folder.path(), &paths, Selection::TextLike).unwrap_err();
    assert_eq!(complaints, ["b.md: no such file or folder", "c: no such file or folder"]);
}

#[cfg(unix)]
#[test]
fn symlinks_in_folders_are_not_followed() {
    let folder = folder(&["docs/a.md", "elsewhere/b.md"]);
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("docs/link")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere/b.md"), folder.path().join("docs/b.md"))
        .unwrap();
    assert_eq!(documents(folder.path(), &["docs"], Selection::TextLike), ["docs/a.md"]);
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_utf8_is_reported_and_the_rest_is_taken() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder(&["a.md"]);
    fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.md")), "x").unwrap();
    let walk = walk(folder.path(), &[PathBuf::from(".")], Selection::TextLike).unwrap();
    assert_eq!((walk.found.len(), walk.unreadable.len()), (1, 1));
    assert!(walk.unreadable[0].1.contains("not UTF-8"));
}

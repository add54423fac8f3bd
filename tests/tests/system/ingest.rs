//! Many files of every shape that Markdown comes in.

use std::{fs, path::Path};

use futures::TryStreamExt;
use weft_proto::database::v1::DocumentState;

use crate::process::Mesh;

const FILES: usize = 1000;

/// One of eight shapes, of 1 to 20 paragraphs.
fn markdown(i: usize) -> String {
    let sentence = format!("Buoy {i} lies {} fathoms deep; the keeper reads it twice a day. ", i % 97);
    let paragraphs: String = (0..=i % 20).map(|p| format!("{}\n\n", sentence.repeat(1 + p % 4))).collect();
    match i % 8 {
        0 => format!("# Buoy {i}\n\n{paragraphs}## Readings\n\n- first\n  - nested\n- second\n"),
        1 => format!("---\ntitle: Buoy {i}\ntags: [sea, depth]\n---\n\n{paragraphs}"),
        2 => {
            format!(
                "Buoy {i}\n======\n\n```rust\nfn depth() -> u32 {{ {i} }}\n# not a heading\n```\n{paragraphs}"
            )
        }
        3 => format!("# Boje {i}: größe, 深さ, глубина 🌊\r\n\r\n{}", paragraphs.replace('\n', "\r\n")),
        4 => format!("{paragraphs}| buoy | depth |\n|---|---:|\n{}", format!("| {i} | {i} |\n").repeat(30)),
        5 => format!(
            "\u{feff}# Buoy {i}\n\n<details><summary>more</summary>\n\n{paragraphs}</details>\n<!-- x"
        ),
        6 => format!("# Buoy {i}\n\n{}{}", sentence.trim_end().repeat(i % 200), "> ".repeat(40)),
        _ => {
            format!("[buoy]: https://example.org/{i} \"a [b](c\"\n\n![buoy][buoy]\n\n{paragraphs}```unclosed")
        }
    }
}

fn write(folder: &Path) {
    for i in 0..FILES {
        let folder = folder.join(format!("bay {}", i % 10)).join(format!("{}", i % 3));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("boje-ß-{i}.md")), markdown(i)).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_markdown_files_are_ingested_without_a_failure() {
    let mesh = Mesh::start("").await;
    let client = mesh.client().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    for expected in ["1,000 ready, 0 unchanged, 0 failed", "0 ready, 1,000 unchanged, 0 failed"] {
        let output = mesh.ingest(folder.path()).wait_with_output().await.unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success() && out.starts_with(expected), "{out}{err}");
    }
    let ready: Vec<_> = client.documents().list(Some(DocumentState::Ready)).try_collect().await.unwrap();
    assert_eq!(ready.len(), FILES);
}

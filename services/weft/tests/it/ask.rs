//! A question about what was ingested.

use crate::program::Mesh;

#[test]
fn an_answer_streams_to_stdout_and_its_sources_to_stderr() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("ferry.md", "# Ferry\n\nThe evening ferry leaves the northern pier at twenty past seven.\n"),
        ("bread.md", "# Bread\n\nKnead the dough for ten minutes and let it rest over night.\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mesh = Mesh::start();
    let ingested = mesh.command(&["ingest", "."]).current_dir(folder.path()).output().unwrap();
    assert!(ingested.status.success(), "{ingested:?}");

    let said = mesh.run(&["ask", "When does the evening ferry leave?"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("twenty past seven") && said.out.ends_with('\n'), "{}", said.out);
    assert!(said.err.contains("sources\n  ferry.md passage 1"), "{}", said.err);

    let chat = said.err.split("--chat ").nth(1).unwrap().split_whitespace().next().unwrap();
    let said = mesh.run(&["ask", "--chat", chat, "How long must the dough rest?"]);
    assert!(said.out.contains("over night") && said.err.contains(chat), "{said:?}");

    let said = mesh.run(&["ask", "--chat", "0193", "hello?"]);
    assert_eq!(said.code, 1);
    assert!(said.err.starts_with("error: cannot post to chat 0193: "), "{}", said.err);

    let said = mesh.run(&["search", "knead dough"]);
    assert!(said.out.starts_with("bread.md passage 1"), "{said:?}");
}

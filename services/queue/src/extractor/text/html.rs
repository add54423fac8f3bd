//! HTML as Markdown: what is said, its headings, lists and code, without what is hidden.

use scraper::{Html, Node, node::Element};

/// Converts a document. Broken HTML is read as browsers do.
///
/// Walks without recursion: nesting costs no stack.
pub(super) fn to_markdown(html: &str) -> String {
    let document = Html::parse_document(html);
    let mut writer = Writer::default();
    let mut node = document.tree.root();
    loop {
        writer.enter(node.value());
        if let Some(child) = node.first_child() {
            node = child;
            continue;
        }
        writer.leave(node.value());
        while node.next_sibling().is_none() {
            let Some(parent) = node.parent() else { return writer.finish() };
            node = parent;
            writer.leave(node.value());
        }
        if let Some(sibling) = node.next_sibling() {
            node = sibling;
        }
    }
}

fn is_hidden(element: &Element) -> bool {
    matches!(element.name(), "script" | "style" | "noscript" | "template" | "svg" | "iframe" | "object")
}

#[derive(Default)]
struct Writer {
    out: String,
    /// Written before the next text, so that empty elements leave no trace.
    pending: String,
    preformatted: usize,
    hidden: usize,
}

impl Writer {
    fn enter(&mut self, node: &Node) {
        match node {
            Node::Element(element) if is_hidden(element) => self.hidden += 1,
            Node::Element(element) if self.hidden == 0 => self.open(element.name()),
            Node::Text(text) if self.hidden == 0 => self.text(text),
            _ => {}
        }
    }

    fn leave(&mut self, node: &Node) {
        match node {
            Node::Element(element) if is_hidden(element) => self.hidden -= 1,
            Node::Element(element) if self.hidden == 0 => self.close(element.name()),
            _ => {}
        }
    }

    fn open(&mut self, name: &str) {
        match name {
            "h1" | "h2" | "h3" | "h4" | "h5" | "h6" => {
                self.block();
                let level = name.as_bytes().get(1).map_or(1, |digit| usize::from(digit - b'0'));
                self.pending.push_str(&"#".repeat(level));
                self.pending.push(' ');
            }
            "title" => {
                self.block();
                self.pending.push_str("# ");
            }
            "li" => {
                self.line();
                self.pending.push_str("- ");
            }
            "pre" => {
                self.block();
                self.pending.push_str("```\n");
                self.preformatted += 1;
            }
            "br" | "tr" | "dt" | "dd" | "option" => self.line(),
            "td" | "th" => self.space(),
            _ if is_block(name) => self.block(),
            _ => {}
        }
    }

    fn close(&mut self, name: &str) {
        if name == "pre" {
            self.preformatted = self.preformatted.saturating_sub(1);
            if self.pending.ends_with("```\n") {
                self.pending.truncate(self.pending.len() - 4);
            } else {
                self.line();
                self.pending.push_str("```");
            }
        }
        if is_block(name) || matches!(name, "pre" | "title" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6") {
            self.block();
        }
    }

    fn text(&mut self, text: &str) {
        if self.preformatted > 0 {
            self.flush();
            self.out.push_str(text);
            return;
        }
        if text.starts_with(char::is_whitespace) {
            self.space();
        }
        for (i, word) in text.split_whitespace().enumerate() {
            if i > 0 {
                self.space();
            }
            self.flush();
            self.out.push_str(word);
        }
        if text.ends_with(char::is_whitespace) {
            self.space();
        }
    }

    fn flush(&mut self) {
        self.out.push_str(&std::mem::take(&mut self.pending));
    }

    fn space(&mut self) {
        if !self.out.is_empty() && self.pending.is_empty() && !self.out.ends_with(char::is_whitespace) {
            self.pending.push(' ');
        }
    }

    fn line(&mut self) {
        self.break_lines("\n");
    }

    fn block(&mut self) {
        self.break_lines("\n\n");
    }

    /// A prefix that waits for text that never came goes; a fence that closes stays.
    fn break_lines(&mut self, lines: &str) {
        if self.pending.ends_with("```") {
            self.flush();
        }
        let lines = if self.pending.starts_with("\n\n") { "\n\n" } else { lines };
        self.pending.clear();
        if !self.out.is_empty() {
            self.pending.push_str(lines);
        }
    }

    fn finish(mut self) -> String {
        if self.pending.ends_with("```") {
            self.flush();
        }
        self.out
    }
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "div"
            | "section"
            | "article"
            | "header"
            | "footer"
            | "main"
            | "nav"
            | "aside"
            | "ul"
            | "ol"
            | "dl"
            | "table"
            | "blockquote"
            | "figure"
            | "figcaption"
            | "form"
            | "fieldset"
            | "hr"
            | "body"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_lists_and_code_stay_and_scripts_go() {
        let html = "<!doctype html><title>The  guide</title><style>p{}</style><h2>Install <em>it</em></h2>\
            <p>Run\n this:<script>alert(1)</script></p><pre>cargo  run\n  -- up</pre><ul><li>one<li>two</ul><p></p>";
        let markdown = to_markdown(html);
        assert_eq!(
            markdown,
            "# The guide\n\n## Install it\n\nRun this:\n\n```\ncargo  run\n  -- up\n```\n\n- one\n- two"
        );
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        // The parser's time is quadratic in it; what that costs is limited around the child.
        const DEPTH: usize = 2000;
        let html = format!("{}deep{}", "<div><div>".repeat(DEPTH), "</div></div>".repeat(DEPTH));
        assert!(to_markdown(&html).contains("deep"));
    }
}

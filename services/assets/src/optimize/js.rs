//! Scripts, by oxc's minifier.
//!
//! A file is taken for a module when it says so by its syntax or its name; in a script, top-level names are global and
//! keep their names. Licence comments stay. The result is read back, and minified again until nothing changes.

use oxc::{
    allocator::Allocator,
    codegen::{Codegen, CodegenOptions, CommentOptions, LegalComment},
    minifier::{CompressOptions, MangleOptions, Minifier, MinifierOptions},
    parser::Parser,
    span::SourceType,
};
use oxc_compat::EngineTargets;

use super::{Kept, nesting};

/// More than twice what any of two thousand real scripts has, and a third of what the stack below surely holds.
const MAX_NESTING: usize = 1000;

/// Stack of the thread that parses.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Rounds after which the minifier must have come to rest.
const MAX_ROUNDS: usize = 4;

/// Syntax up to this edition may come out where it did not go in.
const TARGET: &str = "es2017";

/// Minifies a script or module.
pub(super) fn minify(source: &[u8], name: &str) -> Result<Vec<u8>, Kept> {
    let source = std::str::from_utf8(source).map_err(|_| Kept::Unreadable("not UTF-8".into()))?;
    match nesting::of_js(source) {
        nesting::Nesting::AtMost(depth) if depth <= MAX_NESTING => {}
        nesting::Nesting::AtMost(_) | nesting::Nesting::Unsure => return Err(Kept::TooLarge),
        nesting::Nesting::Broken(problem) => return Err(Kept::Unreadable(problem.into())),
    }
    let kind = if name.ends_with(".mjs") { SourceType::mjs() } else { SourceType::unambiguous() };
    super::on_deep_stack(STACK_BYTES, || until_at_rest(source, kind))
}

fn until_at_rest(source: &str, kind: SourceType) -> Result<Vec<u8>, Kept> {
    let (mut code, kind) = once(source, kind).map_err(Kept::Unreadable)?;
    for _ in 0..MAX_ROUNDS {
        let (again, _) = once(&code, kind).map_err(|_| Kept::Unverified)?;
        if again == code {
            return Ok(code.into_bytes());
        }
        code = again;
    }
    Err(Kept::Unverified)
}

/// One round: the code, and whether it is a module.
fn once(source: &str, kind: SourceType) -> Result<(String, SourceType), String> {
    let allocator = Allocator::default();
    let parsed = Parser::new(&allocator, source, kind).parse();
    if let Some(problem) = parsed.diagnostics.first() {
        return Err(problem.to_string());
    }
    let mut program = parsed.program;
    let kind = program.source_type;
    let target = EngineTargets::from_target(TARGET)?;
    let options = MinifierOptions {
        mangle: Some(MangleOptions::default()),
        mangle_properties: None,
        compress: Some(CompressOptions { target, drop_debugger: false, ..CompressOptions::smallest() }),
    };
    let minified = Minifier::new(options).minify(&allocator, &mut program);
    let comments =
        CommentOptions { normal: false, jsdoc: false, annotation: false, legal: LegalComment::Inline };
    let printed = Codegen::new()
        .with_options(CodegenOptions { minify: true, comments, ..CodegenOptions::default() })
        .with_scoping(minified.scoping)
        .build(&program);
    Ok((printed.code, kind))
}

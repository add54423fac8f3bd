//! What counts as deep, and what does not.

use super::*;

fn bound(source: &str) -> usize {
    match of_js(source) {
        Nesting::AtMost(depth) => depth,
        other => panic!("{other:?} for {}", &source[..source.len().min(60)]),
    }
}

#[test]
fn everything_that_nests_is_counted() {
    let n = 1000;
    for unit in [
        "(",
        "[",
        "{",
        "!",
        "-(",
        "typeof ",
        "a=>",
        "a=",
        "a?b:",
        "a+",
        "a.",
        "f()",
        "x[0]",
        "if(a)",
        "for(;;)",
        "if(a){}else ",
        "if(a)b;else ",
        "while(a)",
        "do ",
        "a:",
        "new ",
        "a?\")\":",
        "a?/[\"]/:",
        "`${",
        "a\n=\n",
        "!\n",
        "+function(){}",
        "({a:",
        "function(){",
        "async()=>",
        "a**",
        "if(a)/\"/,",
        "await ",
        "with(a)",
    ] {
        let bound = bound_or_more(&unit.repeat(n));
        assert!(bound >= n, "{unit:?}: {bound}");
    }
}

fn bound_or_more(source: &str) -> usize {
    match of_js(source) {
        Nesting::AtMost(depth) => depth,
        // Never parsed, so never too deep.
        Nesting::Unsure | Nesting::Broken(_) => usize::MAX,
    }
}

#[test]
fn long_code_is_not_deep_code() {
    for unit in [
        "a = b + 1;\n",
        "const a = f(x)\n",
        "function f(a, b) { return a / b / 2 }\n",
        "x.push({ a: 1, b: [2, 3] });",
        "if (a) { b() } else { c() }\n",
        "class A { m() { return /\\//.test(1) } }\n",
        "var s = 'it\\'s', t = `a${b}c`;",
        "for (const x of y) { if (x) continue; z(x) }\n",
        "i++; j--;\n",
        "x = (a + b) / 2 // half, isn't it\n;",
        "export const q = (a) => a;\n",
        "case_(); // don't\n",
        "r = /[/\"]/g;",
        "o = { if: 1, return: 2 };",
    ] {
        let bound = bound(&unit.repeat(2000));
        assert!(bound < 60, "{unit:?}: {bound}");
    }
}

#[test]
fn what_is_no_script_is_said_so() {
    for source in ["it isn't", "a /* b", "`${a", "(]", ")", "x = /a"] {
        assert!(matches!(of_js(source), Nesting::Broken(_)), "{source}");
    }
}

#[test]
fn css_is_bounded_by_its_brackets() {
    assert_eq!(of_css("a{b:c}@media(x){d{e:f}}"), 2);
    assert!(of_css(&"a{".repeat(500)) >= 500);
    assert!(of_css(&"a{b:\"}\";".repeat(500)) >= 500);
    assert!(of_css(&"a{b:'x';c:\"}\"}/* { */".repeat(500)) < 64);
}

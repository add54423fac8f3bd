//! The optimizers on the sample set and on what they must leave alone.

use super::*;

const LIMITS: Limits = Limits { max_pixels: 16_000_000, max_text_bytes: 4 << 20 };

fn js(source: &str) -> Result<String, Kept> {
    optimize(Kind::Js, source.as_bytes(), "a.js", 0, LIMITS).map(|js| String::from_utf8(js).unwrap())
}

fn css(source: &str) -> Result<String, Kept> {
    optimize(Kind::Css, source.as_bytes(), "a.css", 0, LIMITS).map(|css| String::from_utf8(css).unwrap())
}

#[test]
fn globals_of_a_script_keep_their_names_and_those_of_a_module_need_not() {
    let script =
        js("function greetEverybody(somebody) { return 'hello ' + somebody }\nvar answerToAll = 42;\n")
            .unwrap();
    assert!(script.contains("greetEverybody") && script.contains("answerToAll"), "{script}");
    assert!(!script.contains("somebody"), "{script}");
    let module =
        js("const hidden = Math.random();\nexport function visible() { return hidden + hidden }\n").unwrap();
    assert!(module.contains("visible") && !module.contains("hidden"), "{module}");
}

#[test]
fn licence_comments_stay_and_no_newer_syntax_comes_in() {
    let script = js(
        "/*! (c) somebody, MIT */\nfunction f(a) { if (a.b === null || a.b === undefined) { a.b = 1 } }\n",
    );
    let script = script.unwrap();
    assert!(script.contains("(c) somebody, MIT"), "{script}");
    assert!(!script.contains("??") && !script.contains("?."), "{script}");
}

#[test]
fn what_is_no_script_is_said_so() {
    for source in ["this is just prose, not code", "function (", "<html><body>no</body></html>", "let a = 'x"]
    {
        assert!(matches!(js(source), Err(Kept::Unreadable(_))), "{source}: {:?}", js(source));
    }
}

#[test]
fn deep_nesting_ends_no_process() {
    for unit in [
        "(", "[", "{", "!", "- ", "a=>", "a=", "a?b:", "a+", "a.b.", "f()", "if(a)", "x[0]", "new ", "`${",
        "typeof ",
    ] {
        // Just below the bound, and far above it.
        for n in [300, 490, 990, 200_000] {
            let _ = js(&format!("{}a", unit.repeat(n)));
            let closed: String =
                unit.chars().filter_map(|c| "([{".find(c).map(|i| [')', ']', '}'][i])).collect();
            let _ = js(&format!("{}a{}", unit.repeat(n), closed.repeat(n)));
        }
    }
    for unit in ["a{", "a{b:calc(", "(", "@media x{", ":not(", ":is(a,"] {
        for n in [100, 490, 200_000] {
            let _ = css(&format!("{}x", unit.repeat(n)));
            let _ = css(&format!("a{}", unit.repeat(n)));
            let closed: String =
                unit.chars().filter_map(|c| "([{".find(c).map(|i| [')', ']', '}'][i])).rev().collect();
            let _ = css(&format!("{}{}", unit.repeat(n), closed.repeat(n)));
        }
    }
}

#[test]
fn css_gets_no_newer_syntax() {
    let css = css(
        "@media (min-width: 600px) {\n  .a {\n    color: #ff0000;\n    margin: 0px 0px 0px 0px;\n  }\n}\n",
    )
    .unwrap();
    assert_eq!(css, "@media (min-width:600px){.a{color:red;margin:0}}");
}

#[test]
fn what_is_small_already_is_kept() {
    assert_eq!(js("f(1)"), Err(Kept::NotSmaller));
    assert_eq!(css("a{color:red}"), Err(Kept::NotSmaller));
}

#[test]
fn a_limit_keeps_the_original() {
    let limits = Limits { max_pixels: 10, max_text_bytes: 10 };
    assert_eq!(optimize(Kind::Js, b"var aaaaaa = 1;", "a.js", 0, limits), Err(Kept::TooLarge));
    assert_eq!(optimize(Kind::Png, b"", "a.png", 11, limits), Err(Kept::TooLarge));
}

#[test]
fn garbage_is_kept_whatever_it_claims_to_be() {
    let noise: Vec<u8> = (0..4096_u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect();
    for kind in Kind::ALL {
        assert!(optimize(kind, &noise, "a", 1, LIMITS).is_err());
        assert!(optimize(kind, b"", "a", 1, LIMITS).is_err());
    }
}

/// File names of the sample set, with what they are and the least percentage by which they must shrink.
const SAMPLES: &[(Kind, &str, u64)] = &[
    (Kind::Js, "todo.js", 30),
    (Kind::Js, "markdown.mjs", 30),
    (Kind::Css, "site.css", 15),
    (Kind::Css, "components.css", 15),
    (Kind::Png, "chart.png", 10),
    (Kind::Png, "gradient.png", 10),
    (Kind::Png, "screenshot.png", 10),
    (Kind::Jpeg, "landscape.jpg", 5),
    (Kind::Jpeg, "portrait.jpg", 5),
    (Kind::Jpeg, "grey.jpg", 5),
];

fn sample(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/samples/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn every_image_of_the_samples_looks_as_it_did() {
    let decode = |bytes: &[u8]| image::load_from_memory(bytes).unwrap();
    for (kind, name, _) in SAMPLES.iter().filter(|(kind, ..)| matches!(kind, Kind::Png | Kind::Jpeg)) {
        let source = sample(name);
        let before = decode(&source);
        let after = decode(&optimize(*kind, &source, name, 1, LIMITS).unwrap());
        if *kind == Kind::Png {
            // 16 bits a channel hold whatever a PNG does.
            assert!(before.into_rgba16() == after.into_rgba16(), "{name}: a pixel differs");
        } else {
            let alike = jpeg::similarity::of(&before, &after).expect(name);
            assert!(alike.psnr >= jpeg::MIN_PSNR && alike.ssim >= jpeg::MIN_SSIM, "{name}: {alike:?}");
        }
    }
}

#[test]
fn every_sample_shrinks_by_what_was_promised_and_by_the_same_bytes_each_time() {
    let mut worst = Vec::new();
    for (kind, name, percent) in SAMPLES {
        let before = sample(name);
        let after = optimize(*kind, &before, name, 1, LIMITS).unwrap_or_else(|kept| panic!("{name}: {kept}"));
        let saved = 100.0 - 100.0 * after.len() as f64 / before.len() as f64;
        println!("{name}: {} -> {} bytes, {saved:.1} % smaller", before.len(), after.len());
        if saved < *percent as f64 {
            worst.push(format!("{name} {saved:.1} % < {percent} %"));
        }
        assert_eq!(
            optimize(*kind, &before, name, 1, LIMITS).as_ref(),
            Ok(&after),
            "{name} differs the second time"
        );
        if let Ok(again) = optimize(*kind, &after, name, 1, LIMITS) {
            assert!(again.len() < after.len());
        }
    }
    assert!(worst.is_empty(), "{worst:?}");
}

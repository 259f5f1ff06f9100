//! `docs/kubernetes.md` lists what the catalogue holds.

use std::{fmt::Write, fs, path::Path};

const BEGIN: &str = "<!-- generated from the catalogue: UPDATE_DOCS=1 cargo nextest run -p api documentation -->\n";
const END: &str = "<!-- end of the generated part -->\n";

fn table() -> String {
    let mut text =
        String::from("| group/version | kind | resource | scope | verbs | subresources |\n|---|---|---|---|---|---|\n");
    for resource in api::catalogue::all() {
        let group = if resource.group.is_empty() { "core" } else { resource.group };
        let short = match resource.short_names {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        let subresources: Vec<&str> = resource.subresources.iter().map(|s| s.name).collect();
        writeln!(
            text,
            "| {group}/{} | {} | {}{short} | {} | {} | {} |",
            resource.version,
            resource.kind,
            resource.plural,
            if resource.namespaced { "namespace" } else { "cluster" },
            resource.verbs.join(", "),
            subresources.join(", "),
        )
        .expect("writing to a string can't fail");
    }
    text
}

#[test]
fn the_page_of_kinds_is_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubernetes.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the opening mark");
    let (_, after) = rest.split_once(END).expect("the page has the closing mark");
    let wanted = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == wanted,
        "docs/kubernetes.md is out of date: run the command in its mark"
    );
}

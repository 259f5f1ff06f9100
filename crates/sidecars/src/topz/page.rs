//! The processes as a page for people.

use std::fmt::Write as _;

use super::snapshot::{Machine, Row};

/// The page.
#[must_use]
pub fn page(machine: &Machine, rows: &[Row], sort: &str) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=en><meta charset=utf-8><title>topz</title><style>\
         body{font:14px/1.4 system-ui,sans-serif;margin:1.5rem}table{border-collapse:collapse;width:100%}\
         th,td{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd}.n{text-align:right}\
         td.c{font-family:monospace;word-break:break-all}</style><h1>topz</h1>",
    );
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    let load: Vec<String> = machine.load.iter().map(ToString::to_string).collect();
    let _ = write!(
        html,
        "<p>{} processes; {} processors; {:.1} of {:.1} GiB of memory to be had; load {}</p><table><tr>",
        rows.len(),
        machine.cpus,
        gib(machine.memory_available_bytes),
        gib(machine.memory_bytes),
        load.join(" "),
    );
    for (title, key) in [
        ("PID", "pid"),
        ("User", ""),
        ("State", ""),
        ("CPU %", "cpu"),
        ("Memory %", ""),
        ("Resident MiB", "memory"),
        ("Threads", ""),
        ("Command", ""),
    ] {
        let mark = if key == sort { " ▾" } else { "" };
        match key {
            "" => drop(write!(html, "<th>{title}")),
            key => drop(write!(html, "<th><a href=\"?format=html&amp;sort={key}\">{title}</a>{mark}")),
        }
    }
    for row in rows {
        let _ = write!(
            html,
            "<tr><td class=n>{}<td class=n>{}<td>{}<td class=n>{:.1}<td class=n>{:.1}<td class=n>{:.1}<td class=n>{}<td class=c>{}",
            row.pid,
            row.user.map(|user| user.to_string()).unwrap_or_default(),
            row.state,
            row.cpu_percent,
            row.memory_percent,
            row.resident_bytes as f64 / f64::from(1 << 20),
            row.threads,
            escape(&row.command),
        );
    }
    html.push_str("</table></html>\n");
    html
}

/// A command line may hold anything.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

//! Prints the server's tables.

use serde_json::Value;

/// Lines of aligned columns, three blanks apart; columns of higher priority only if `wide`.
pub fn render(table: &Value, wide: bool, with_namespace: bool, prefix: &str) -> Vec<String> {
    let empty = Vec::new();
    let definitions = table["columnDefinitions"].as_array().unwrap_or(&empty);
    let shown: Vec<usize> =
        (0..definitions.len()).filter(|i| wide || definitions[*i]["priority"].as_i64().unwrap_or(0) == 0).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut heading: Vec<String> =
        shown.iter().map(|i| definitions[*i]["name"].as_str().unwrap_or_default().to_uppercase()).collect();
    if with_namespace {
        heading.insert(0, "NAMESPACE".into());
    }
    rows.push(heading);
    for row in table["rows"].as_array().unwrap_or(&empty) {
        let mut cells: Vec<String> = shown
            .iter()
            .map(|i| {
                let cell = match &row["cells"][*i] {
                    Value::String(text) => text.replace('\n', " "),
                    Value::Null => "<none>".into(),
                    other => other.to_string(),
                };
                if definitions[*i]["format"] == "name" { format!("{prefix}{cell}") } else { cell }
            })
            .collect();
        if with_namespace {
            cells.insert(0, row["object"]["metadata"]["namespace"].as_str().unwrap_or_default().to_owned());
        }
        rows.push(cells);
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0)).collect();
    rows.iter()
        .map(|row| {
            let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}   ")).collect();
            line.trim_end().to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn columns_align_and_wide_ones_wait_for_wide() {
        let table = json!({
            "columnDefinitions": [{"name": "Name", "format": "name"}, {"name": "Ready"}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["web-1", "1/1", "n1"], "object": {"metadata": {"namespace": "d"}}},
                     {"cells": ["a", null, "n1"], "object": {"metadata": {"namespace": "d"}}}],
        });
        assert_eq!(super::render(&table, false, false, ""), ["NAME    READY", "web-1   1/1", "a       <none>"]);
        assert_eq!(
            super::render(&table, true, true, "pod/"),
            [
                "NAMESPACE   NAME        READY    NODE",
                "d           pod/web-1   1/1      n1",
                "d           pod/a       <none>   n1"
            ]
        );
    }
}

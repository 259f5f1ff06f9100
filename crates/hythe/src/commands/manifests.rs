//! Objects from files: YAML documents or JSON, lists unfolded; a directory's files in their order; `-` is standard input.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// Reads all objects of all paths.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("standard input")?;
            parse(&text, "standard input", &mut objects)?;
        } else if path.is_dir() {
            let mut files: Vec<PathBuf> = fs::read_dir(path)?.flatten().map(|e| e.path()).collect();
            files.retain(|f| f.extension().is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known)));
            files.sort();
            for file in files {
                read_file(&file, &mut objects)?;
            }
        } else {
            read_file(path, &mut objects)?;
        }
    }
    if objects.is_empty() {
        bail!("no objects passed to apply");
    }
    Ok(objects)
}

fn read_file(path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    parse(&text, &path.display().to_string(), objects)
}

fn parse(text: &str, source: &str, objects: &mut Vec<Value>) -> Result<()> {
    for (index, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        let value = Value::deserialize(document).with_context(|| format!("{source}: document {}", index + 1))?;
        match &value {
            Value::Null => continue,
            Value::Object(_) => {}
            _ => bail!("{source}: document {} is no object", index + 1),
        }
        if value["kind"].as_str().is_some_and(|k| k.ends_with("List"))
            && let Some(items) = value["items"].as_array()
        {
            objects.extend(items.iter().cloned());
            continue;
        }
        for field in ["apiVersion", "kind"] {
            if value[field].as_str().is_none_or(str::is_empty) {
                bail!("{source}: document {}: {field} is not set", index + 1);
            }
        }
        objects.push(value);
    }
    Ok(())
}

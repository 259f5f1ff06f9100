//! Names and numbers of signals.

/// `9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`.
pub(crate) fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return offset_of(offset).map(|offset| 34 + offset);
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return offset_of(offset).map(|offset| 64 - offset);
    }
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

fn offset_of(text: &str) -> Option<i32> {
    if text.is_empty() {
        Some(0)
    } else {
        text.strip_prefix(['+', '-'])?.parse().ok().filter(|offset| (0..=30).contains(offset))
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("sigint", 2), ("SIGRTMIN+3", 37), ("RTMAX", 64)]
        {
            assert_eq!(parse(text), Some(number), "{text}");
        }
        for text in ["", "0", "65", "SIGNONE", "RTMINx"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}

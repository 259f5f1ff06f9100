//! What instructions' texts stand for. Pure.

use engine::content::Healthcheck;

use super::{Form, Health};

impl Health {
    /// The check as an image's configuration has it.
    #[must_use]
    pub fn told(&self) -> Healthcheck {
        match &self.checks {
            None => Healthcheck { test: vec!["NONE".into()], ..Healthcheck::default() },
            Some(checks) => Healthcheck {
                test: test(&checks.form),
                interval: checks.interval,
                timeout: checks.timeout,
                start_period: checks.start_period,
                start_interval: checks.start_interval,
                retries: checks.retries,
            },
        }
    }
}

fn test(form: &Form) -> Vec<String> {
    let kind = if form.shell { "CMD-SHELL" } else { "CMD" };
    [vec![kind.to_owned()], form.args.clone()].concat()
}

/// `80`, `80/udp`, `8000-8010/tcp` → `PORT/PROTOCOL` each.
///
/// # Errors
/// In Docker's words.
pub fn port_range(text: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("invalid containerPort: {text}");
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    // What stands before a colon was a host port once; Docker takes the last part.
    let ports = ports.rsplit(':').next().unwrap_or(ports);
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last): (u16, u16) = (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
    if first > last {
        return Err(invalid());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A number from 1 to 64, or a name with or without `SIG`.
///
/// # Errors
/// In Docker's words.
pub fn check_signal(text: &str) -> Result<(), String> {
    const NAMES: [&str; 33] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU",
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |sign: &str| name.strip_prefix(sign).is_some_and(|rest| rest.parse::<u8>().is_ok_and(|n| n <= 15));
    let known = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number))
        || NAMES.contains(&name)
        || matches!(name, "XFSZ" | "RTMIN" | "RTMAX")
        || offset("RTMIN+")
        || offset("RTMAX-");
    if known { Ok(()) } else { Err(format!("invalid signal: {text}")) }
}

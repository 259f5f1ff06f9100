//! The standard cron format (`robfig/cron` v3 `ParseStandard`): five fields, or a descriptor such as `@daily`.

/// Says what is wrong with a schedule, in the words of the library that upstream uses.
pub fn check(schedule: &str) -> Result<(), String> {
    let mut spec = schedule;
    if spec.starts_with("TZ=") || spec.starts_with("CRON_TZ=") {
        spec = match spec.split_once(' ') {
            Some((_, rest)) => rest.trim(),
            None => return Ok(()),
        };
    }
    if spec.starts_with('@') {
        return descriptor(spec);
    }
    let fields: Vec<&str> = spec.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    for (field, bounds) in fields.into_iter().zip(BOUNDS) {
        for expression in field.split(',').filter(|expression| !expression.is_empty()) {
            range(expression, &bounds)?;
        }
    }
    Ok(())
}

struct Bounds {
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const BOUNDS: [Bounds; 5] = [
    Bounds { least: 0, most: 59, names: &[] },
    Bounds { least: 0, most: 23, names: &[] },
    Bounds { least: 1, most: 31, names: &[] },
    Bounds {
        least: 1,
        most: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { least: 0, most: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

fn descriptor(spec: &str) -> Result<(), String> {
    match spec {
        "@yearly" | "@annually" | "@monthly" | "@weekly" | "@daily" | "@midnight" | "@hourly" => Ok(()),
        _ => match spec.strip_prefix("@every ") {
            Some(duration) => {
                go_duration::read(duration).map(|_| ()).map_err(|e| format!("failed to parse duration {spec}: {e}"))
            }
            None => Err(format!("unrecognized descriptor: {spec}")),
        },
    }
}

/// `number | number "-" number [ "/" number ]`, with names and `*`.
fn range(expression: &str, bounds: &Bounds) -> Result<(), String> {
    let with_step: Vec<&str> = expression.split('/').collect();
    let low_and_high: Vec<&str> = with_step[0].split('-').collect();
    let single = low_and_high.len() == 1;
    let (start, mut end);
    if matches!(low_and_high[0], "*" | "?") {
        (start, end) = (bounds.least, bounds.most);
    } else {
        start = int_or_name(low_and_high[0], bounds)?;
        end = match low_and_high.len() {
            1 => start,
            2 => int_or_name(low_and_high[1], bounds)?,
            _ => return Err(format!("too many hyphens: {expression}")),
        };
    }
    match with_step.len() {
        1 => {}
        2 => {
            let step = number(with_step[1])?;
            if single {
                end = bounds.most;
            }
            if step == 0 {
                return Err(format!("step of range should be a positive number: {expression}"));
            }
        }
        _ => return Err(format!("too many slashes: {expression}")),
    }
    if start < bounds.least {
        return Err(format!("beginning of range ({start}) below minimum ({}): {expression}", bounds.least));
    }
    if end > bounds.most {
        return Err(format!("end of range ({end}) above maximum ({}): {expression}", bounds.most));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {expression}"));
    }
    Ok(())
}

fn int_or_name(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().zip(bounds.least..).find(|(name, _)| **name == lower) {
        Some((_, number)) => Ok(number),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let quoted = crate::status::quoted(text);
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {quoted}: invalid syntax")),
    }
}

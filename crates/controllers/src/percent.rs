//! Numbers that may be given as a percentage of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number, or that many per cent `of` another, rounded up or down.
pub fn resolve(value: &IntOrString, of: i32, up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent * i64::from(of);
            let result = if up { (product + 99).div_euclid(100) } else { product.div_euclid(100) };
            i32::try_from(result).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked_and_numbers_stay() {
        let text = |t: &str| IntOrString::String(t.into());
        assert_eq!(resolve(&text("25%"), 3, true), 1);
        assert_eq!(resolve(&text("25%"), 3, false), 0);
        assert_eq!(resolve(&text("100%"), 7, false), 7);
        assert_eq!(resolve(&IntOrString::Int(4), 3, true), 4);
    }
}

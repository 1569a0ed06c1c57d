//! Numbers as people read them.

use std::time::Duration;

/// Bytes in binary units: `512 B`, `1.5 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time with three digits or so: `870 ns`, `1.23 ms`, `12.3 s`.
pub(crate) fn time(t: Duration) -> String {
    let nanos = t.as_nanos() as f64;
    let (value, unit) = match nanos {
        n if n < 1e3 => return format!("{n} ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

/// A count in thousands: `1 234 567`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// `1 entry`, `2 entries`: a count with its noun.
pub(crate) fn counted(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(n), if n == 1 { one } else { many })
}

/// A rate in a second, with three digits or so: `950`, `12.3 k`, `1.20 M`.
pub(crate) fn rate(per_second: f64) -> String {
    let (value, unit) = match per_second {
        r if r < 1e3 => (r, ""),
        r if r < 1e6 => (r / 1e3, " k"),
        r => (r / 1e6, " M"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
        let t = Duration::from_nanos;
        assert_eq!([time(t(870)), time(t(1_234_567)), time(t(12_345_678_900))], ["870 ns", "1.23 ms", "12.3 s"]);
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([rate(9.5), rate(12_345.0), rate(1.2e6)], ["9.50", "12.3 k", "1.20 M"]);
        assert_eq!([counted(1, "entry", "entries"), counted(2, "entry", "entries")], ["1 entry", "2 entries"]);
    }
}

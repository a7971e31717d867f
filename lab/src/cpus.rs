//! The CPUs that this program may run on.

/// Their numbers, in ascending order; empty where the kernel does not say.
pub fn allowed() -> Vec<u32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.map(parse).unwrap_or_default()
}

/// The kernel's notation: `0-2,8`.
fn parse(list: &str) -> Vec<u32> {
    let ends = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    };
    list.split(',').filter_map(ends).flat_map(|(first, last): (u32, u32)| first..=last).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_numbers_are_read() {
        assert_eq!(parse("\t0-2,8"), [0, 1, 2, 8]);
        assert_eq!(parse("3"), [3]);
        assert_eq!(parse("nonsense"), [] as [u32; 0]);
        assert!(!allowed().is_empty());
    }
}

/// The maximum width of a trend, in columns.
const WIDTH: usize = 48;

/// The heights of a bar. The lowest one is for 0 only.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// Draws numbers as bars, for example `▁▂▅█`, relative to the largest of them. If there are too
/// many, each bar is the sum of several.
pub(crate) fn trend(numbers: &[u64]) -> String {
    let numbers_per_bar = numbers.len().div_ceil(WIDTH).max(1);
    let sums = numbers.chunks(numbers_per_bar).map(|numbers| {
        let sum = numbers.iter().copied().map(u128::from);
        sum.sum::<u128>()
    });
    let sums: Vec<u128> = sums.collect();
    let largest = sums.iter().copied().max().unwrap_or_default().max(1);
    let highest = BARS.len() as u128 - 1;
    let bar = |sum: u128| {
        let height = (sum * highest).div_ceil(largest);
        BARS.get(height as usize).copied().unwrap_or_default()
    };
    sums.into_iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::trend;

    #[test]
    fn bars_are_relative_to_the_largest_number() {
        assert_eq!(trend(&[0, 1, 350, 700]), "▁▂▅█");
        assert_eq!(trend(&[0, 0]), "▁▁");
        assert_eq!(trend(&[u64::MAX, u64::MAX]), "██");
        assert_eq!(trend(&[]), "");
    }

    #[test]
    fn many_numbers_share_a_bar() {
        let mut numbers = vec![1; 96];
        numbers[95] = 13;
        assert_eq!(trend(&numbers), format!("{}█", "▂".repeat(47)));
    }
}

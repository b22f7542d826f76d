//! Medians and spreads.

/// Median and quartiles of samples.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Summary {
    /// Half of the samples are below.
    pub median: f64,
    /// A quarter is below.
    pub lower_quartile: f64,
    /// A quarter is above.
    pub upper_quartile: f64,
}

impl Summary {
    /// The summary of samples; none if there are no samples.
    pub fn from_samples(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&sorted, 0.5)?,
            lower_quartile: quantile(&sorted, 0.25)?,
            upper_quartile: quantile(&sorted, 0.75)?,
        })
    }

    /// Half the distance of the quartiles.
    pub fn quartile_deviation(&self) -> f64 {
        (self.upper_quartile - self.lower_quartile) / 2.0
    }

    /// The same as a share of the median.
    pub fn relative_quartile_deviation(&self) -> f64 {
        self.quartile_deviation() / self.median
    }
}

/// The value below which a share of sorted samples lies, interpolated between two samples.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let position = share * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
    Some(below + (above - below) * position.fract())
}

/// The ratios of samples taken in the same rounds: slowdowns that affect both cancel out.
pub fn ratios(top: &[f64], bottom: &[f64]) -> Vec<f64> {
    top.iter().zip(bottom).map(|(top, bottom)| top / bottom).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_lie_between_samples() {
        let summary = Summary::from_samples(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!(
            (summary.lower_quartile, summary.median, summary.upper_quartile),
            (1.75, 2.5, 3.25)
        );
        assert!((summary.relative_quartile_deviation() - 0.3).abs() < 1e-9);
        assert_eq!(Summary::from_samples(&[]), None);
    }

    #[test]
    fn what_slows_both_does_not_show_in_their_ratio() {
        let ratios = ratios(&[10.0, 20.0, 11.0], &[20.0, 40.0, 22.0]);
        assert_eq!(
            Summary::from_samples(&ratios).unwrap().relative_quartile_deviation(),
            0.0
        );
    }
}

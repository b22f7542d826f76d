//! The machine of a run: the properties that results depend on, without anything that identifies its owner.

use std::fs;

use serde::Serialize;

/// A machine.
#[derive(Serialize)]
pub struct Machine {
    /// Model name of the processor.
    pub processor: String,
    /// Family, model and stepping.
    pub cpuid_signature: String,
    /// Number of processors.
    pub processors: usize,
    /// Caches of the CPU that was measured on.
    pub caches: Vec<String>,
    /// Frequency in MHz during the run, by the kernel.
    pub frequency_mhz: String,
    /// Governor of the frequency.
    pub governor: String,
    /// Whether it is a virtual machine.
    pub is_guest: bool,
    /// Memory in GiB.
    pub memory_gib: u64,
    /// Load average of the last minute, at the start and at the end of the bench; the latter includes the bench.
    pub load_averages: [String; 2],
    /// Operating system's name, release and version.
    pub kernel: String,
    /// The kernel's BPF compiler: on, hardened.
    pub jit: String,
    /// Vulnerabilities of the processor and the kernel's mitigations.
    pub mitigations: Vec<String>,
}

impl Machine {
    /// This machine, which had this [`load_average`] before the run.
    pub fn detect(cpu: usize, load_before: String) -> Self {
        let info = read("/proc/cpuinfo");
        let field = |name: &str| {
            let mut lines = info.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(key, _)| key.trim() == name);
            found.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
        };
        let devices = format!("/sys/devices/system/cpu/cpu{cpu}");
        Self {
            processor: field("model name"),
            cpuid_signature: format!(
                "family {}, model {}, stepping {}",
                field("cpu family"),
                field("model"),
                field("stepping")
            ),
            processors: info.lines().filter(|line| line.starts_with("processor")).count(),
            caches: caches(&devices),
            frequency_mhz: field("cpu MHz"),
            governor: known(read(&format!("{devices}/cpufreq/scaling_governor"))),
            is_guest: field("flags").split(' ').any(|flag| flag == "hypervisor"),
            memory_gib: memory(),
            load_averages: [load_before, load_average()],
            kernel: format!(
                "{} {} {}",
                read("/proc/sys/kernel/ostype"),
                read("/proc/sys/kernel/osrelease"),
                read("/proc/sys/kernel/version")
            ),
            jit: format!(
                "on: {}, hardened: {}",
                read("/proc/sys/net/core/bpf_jit_enable"),
                read("/proc/sys/net/core/bpf_jit_harden")
            ),
            mitigations: mitigations(),
        }
    }

    /// A few words for a folder's name.
    pub fn slug(&self) -> String {
        let words = format!("{} {}", self.processor, if self.is_guest { "guest" } else { "" });
        let letters = words
            .to_lowercase()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), " ");
        letters.split_whitespace().collect::<Vec<_>>().join("-")
    }
}

fn caches(devices: &str) -> Vec<String> {
    let cache = |index: usize| {
        let folder = format!("{devices}/cache/index{index}");
        let level = read(&format!("{folder}/level"));
        let kind = read(&format!("{folder}/type")).to_lowercase();
        let size = read(&format!("{folder}/size"));
        (!size.is_empty()).then(|| format!("L{level} {kind} {size}"))
    };
    (0..8).map_while(cache).collect()
}

/// GiB, rounded.
fn memory() -> u64 {
    let kib: Option<u64> = read("/proc/meminfo")
        .lines()
        .next()
        .and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    (kib.unwrap_or_default() + (1 << 19)) >> 20
}

/// The load average of the last minute.
pub fn load_average() -> String {
    let average = read("/proc/loadavg");
    average.split(' ').next().unwrap_or_default().to_owned()
}

fn mitigations() -> Vec<String> {
    let folder = "/sys/devices/system/cpu/vulnerabilities";
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<String> = entries
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let state = read(&format!("{folder}/{name}"));
            (name, state)
        })
        .filter(|(_, state)| state != "Not affected")
        .map(|(name, state)| format!("{name}: {state}"))
        .collect();
    found.sort();
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn known(what: String) -> String {
    if what.is_empty() { "unknown".to_owned() } else { what }
}

/// Today's date (UTC).
///
/// # Errors
/// The clock is set before 1970.
pub fn today() -> anyhow::Result<String> {
    let days = std::time::UNIX_EPOCH.elapsed()?.as_secs() / 86_400;
    Ok(date(days))
}

/// The date so many days after 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days).
fn date(days: u64) -> String {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (19_782, "2024-02-29"),
            (20_779, "2026-11-22"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(days), expected);
        }
    }
}

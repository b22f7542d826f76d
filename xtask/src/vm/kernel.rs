//! Debian's kernels: found by series, unpacked into target/vm/kernels.

use std::{
    cmp::Reverse,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::archive::Archive;
use crate::command;

/// What a kernel of Debian is made of: one package until 6.18, several since 6.19.
const PACKAGES: [&str; 3] = ["linux-image-", "linux-binary-", "linux-modules-"];

/// What follows the release in the names of Debian's packages for 64-bit PCs.
const FLAVOUR: &str = "-amd64";

/// A kernel that is there.
#[derive(Debug)]
pub struct Kernel {
    /// Its release, as `uname -r` prints it: `6.12.117+deb12-amd64`.
    pub release: String,
    /// What a guest boots.
    pub image: PathBuf,
}

/// The newest kernel of a series (`6.12`) or release (`6.12.117`): one that was fetched before, or else Debian's newest.
///
/// # Errors
/// When Debian has none, or it cannot be fetched.
pub fn provide(series: &str, folder: &Path) -> Result<Kernel> {
    check(series)?;
    let kernels = folder.join("kernels");
    if let Some(release) = newest(series, fetched(&kernels)) {
        return Kernel::unpacked(&release, &kernels);
    }
    let own = Archive::Own;
    let (archive, release) = match newest(series, available(&own, series)?) {
        Some(release) => (own, release),
        None => {
            eprintln!("no package of Linux {series} in this machine's suites: looking in the others of its mirror");
            let all = Archive::all_suites(&folder.join("apt"))?;
            let release = newest(series, available(&all, series)?);
            (
                all,
                release.with_context(|| format!("Debian has no package of Linux {series}"))?,
            )
        }
    };
    fetch(&archive, &release, &kernels)?;
    Kernel::unpacked(&release, &kernels)
}

impl Kernel {
    fn unpacked(release: &str, kernels: &Path) -> Result<Self> {
        let image = kernels.join(release).join("boot").join(format!("vmlinuz-{release}"));
        ensure!(
            image.is_file(),
            "{} is missing: remove {}",
            image.display(),
            kernels.display()
        );
        Ok(Self {
            release: release.to_owned(),
            image,
        })
    }
}

/// That something is a series or a release, and no pattern.
fn check(series: &str) -> Result<()> {
    let numbers: Vec<&str> = series.split('.').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !(2..=3).contains(&numbers.len()) || !numbers.iter().all(number) {
        bail!("--kernel {series}: a series of Linux is meant, such as 6.1 or 6.12");
    }
    Ok(())
}

fn fetched(kernels: &Path) -> Vec<String> {
    let entries = fs::read_dir(kernels).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The releases of a series that an archive has.
fn available(archive: &Archive, series: &str) -> Result<Vec<String>> {
    let pattern = format!("^{}{}[.0-9].*{FLAVOUR}$", PACKAGES[0], series.replace('.', r"\."));
    let names = archive.names(&pattern)?;
    let release = |name: &String| name.strip_prefix(PACKAGES[0]).map(str::to_owned);
    Ok(names.iter().filter_map(release).collect())
}

/// The newest of these releases that belongs to a series: no real-time or cloud kernel, which lack drivers.
fn newest(series: &str, releases: Vec<String>) -> Option<String> {
    let belongs = |release: &&String| {
        let rest = release.strip_suffix(FLAVOUR).and_then(|rest| rest.strip_prefix(series));
        rest.is_some_and(|rest| {
            !rest.starts_with(|next: char| next.is_ascii_digit()) && !rest.contains("-rt") && !rest.contains("-cloud")
        })
    };
    let mut releases: Vec<String> = releases.iter().filter(belongs).cloned().collect();
    releases.sort_by_key(|release| Reverse(numbers(release)));
    releases.into_iter().next()
}

/// The numbers in a release, by which releases compare.
fn numbers(release: &str) -> Vec<u32> {
    let parts = release.split(|next: char| !next.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Fetches a kernel and lists what its modules need of each other.
fn fetch(archive: &Archive, release: &str, kernels: &Path) -> Result<()> {
    let pattern = format!("^linux-.*-{}$", release.replace('.', r"\.").replace('+', r"\+"));
    let mut packages = archive.names(&pattern)?;
    packages.retain(|name| PACKAGES.iter().any(|kind| name.strip_prefix(kind) == Some(release)));
    // Complete or not at all: the name of a release is given last.
    let partial = kernels.join(format!("{release}.partial"));
    archive.unpack(&packages, &partial)?;
    // Newer packages have the modules below usr, with which Debian itself has merged lib.
    if !partial.join("lib").exists() {
        symlink("usr/lib", partial.join("lib"))?;
    }
    let depmod = command::find("depmod").context("there is no depmod")?;
    command::run(Command::new(depmod).arg("-b").arg(&partial).arg(release))?;
    fs::rename(&partial, kernels.join(release))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_of_a_series() {
        let releases = [
            "6.1.0-9-amd64",
            "6.1.0-57-amd64",
            "6.1.0-58-rt-amd64",
            "6.1.0-58-cloud-amd64",
            "6.12.95+deb12-amd64",
            "6.12.117+deb12-amd64",
            "6.12.118+deb12-amd64.partial",
        ];
        let newest = |series| super::newest(series, releases.map(str::to_owned).to_vec());
        assert_eq!(newest("6.1").as_deref(), Some("6.1.0-57-amd64"));
        assert_eq!(newest("6.12").as_deref(), Some("6.12.117+deb12-amd64"));
        assert_eq!(newest("6.12.95").as_deref(), Some("6.12.95+deb12-amd64"));
        assert_eq!(newest("6.6"), None);
    }

    #[test]
    fn a_series_is_no_pattern() {
        for good in ["6.1", "5.10", "6.12.95"] {
            check(good).unwrap();
        }
        for bad in ["", "6", "6.", "6.x", "6.1.0.1", ".*", "6.1-rt"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}

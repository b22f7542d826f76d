//! What a guest runs: it mounts, loads modules, starts a program and leaves its exit status.

use std::{ffi::OsString, fmt::Write as _, path::Path};

use super::console::{BEGIN, END};

/// Kernel modules that tests use and a guest does not load by itself, with their options.
const MODULES: [&str; 12] = [
    "veth",
    "bridge",
    "8021q",
    // Without a bond0 in the first namespace.
    "bonding max_bonds=0",
    "team",
    "team_mode_activebackup",
    "macvlan",
    "ip_vs",
    "ip_vs_rr",
    "sch_ingress",
    "cls_bpf",
    "act_bpf",
];

/// The file, in the folder that host and guest share, with the exit status of the program.
pub const STATUS: &str = "status";

/// The file there with what the guest's kernel has logged.
pub const KERNEL_LOG: &str = "dmesg";

/// A program and its runs.
pub struct Script<'a> {
    /// The program.
    pub program: &'a Path,
    /// Where it is started.
    pub directory: &'a Path,
    /// Its environment.
    pub variables: &'a [(&'static str, OsString)],
    /// The arguments of each run.
    pub runs: Vec<Vec<String>>,
}

/// The runs of a test runner: one for each filter, or one without any.
pub fn test_runs(filters: &[String]) -> Vec<Vec<String>> {
    // One virtual CPU: tests side by side would only be later, each of them.
    let options = ["--color=never", "--test-threads=1"].map(str::to_owned).to_vec();
    if filters.is_empty() {
        return vec![options];
    }
    let with_filter = |filter: &String| [options.as_slice(), std::slice::from_ref(filter)].concat();
    filters.iter().map(with_filter).collect()
}

impl Script<'_> {
    /// The script for `sh`; its last act is to write [`STATUS`] into `shared`.
    pub fn text(&self, shared: &Path) -> String {
        let mut script = "dmesg -n 1\n\
             export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
             grep -q ' /sys/fs/bpf ' /proc/mounts || mount -t bpf bpf /sys/fs/bpf\n\
             grep -q ' cgroup2 ' /proc/mounts || mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
             ulimit -n 65536\n\
             missing=\n"
            .to_owned();
        for module in MODULES {
            let name = module.split(' ').next().unwrap_or(module);
            let _ = writeln!(script, "modprobe -q {module} || missing=\"$missing {name}\"");
        }
        for (name, value) in self.variables {
            let _ = writeln!(script, "export {name}={}", quoted(&value.to_string_lossy()));
        }
        let _ = writeln!(script, "cd {} || exit", quoted(&self.directory.to_string_lossy()));
        let _ = writeln!(script, "echo '{BEGIN}'");
        script += "echo \"guest with Linux $(uname -r)${missing:+, which lacks the modules$missing}\"\nstatus=0\n";
        let program = quoted(&self.program.to_string_lossy());
        for arguments in &self.runs {
            let arguments: String = arguments
                .iter()
                .map(|argument| format!(" {}", quoted(argument)))
                .collect();
            let _ = writeln!(script, "{program}{arguments} || status=$?");
        }
        let shared = quoted(&shared.to_string_lossy());
        let _ = writeln!(
            script,
            "dmesg > {shared}/{KERNEL_LOG}\necho $status > {shared}/{STATUS}\nsync"
        );
        let _ = writeln!(script, "echo '{END}'");
        script
    }
}

/// A word for `sh`.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What a runner in its place would be started with; nothing is mounted or loaded.
    fn played(filters: &[&str]) -> (String, String) {
        let shared = std::env::temp_dir().join(format!("lbx-vm-script-{}-{}", std::process::id(), filters.len()));
        std::fs::create_dir_all(&shared).unwrap();
        let runner = shared.join("runner");
        std::fs::write(
            &runner,
            "#!/bin/sh\nfor word; do echo \"[$word]\"; done\necho \"$QUOTE\"\nexit 7\n",
        )
        .unwrap();
        let filters: Vec<_> = filters.iter().map(|&filter| filter.to_owned()).collect();
        let script = Script {
            program: Path::new("sh"),
            directory: &shared,
            variables: &[("QUOTE", "it's".into())],
            runs: test_runs(&filters),
        }
        .text(&shared)
        .replace("'sh' ", "sh ./runner ");
        let stand_ins = "dmesg() { :; }\nmodprobe() { [ \"$2\" != team ]; }\nmount() { :; }\nsync() { :; }\n";
        let output = Command::new("sh")
            .arg("-c")
            .arg(format!("{stand_ins}{script}"))
            .output()
            .unwrap();
        let status = std::fs::read_to_string(shared.join(STATUS)).unwrap();
        std::fs::remove_dir_all(shared).unwrap();
        (String::from_utf8(output.stdout).unwrap(), status)
    }

    #[test]
    fn a_runner_runs_once_for_each_filter() {
        let (output, status) = played(&["vlan::", "it's"]);
        assert!(output.contains("[vlan::]\nit's\n[--color=never]"), "{output}");
        assert!(output.contains("[it's]\n"), "{output}");
        assert!(output.contains("which lacks the modules team\n"), "{output}");
        assert!(
            output.starts_with(BEGIN) && output.trim_end().ends_with(END),
            "{output}"
        );
        assert_eq!(status, "7\n");
    }

    #[test]
    fn without_a_filter_it_runs_once() {
        let (output, _) = played(&[]);
        assert_eq!(output.matches("[--color=never]").count(), 1, "{output}");
    }
}

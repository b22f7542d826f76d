use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use super::{PASSED, endpoint, probe};
use crate::{
    desired::{Check, Exec},
    health::{
        check::{CheckError, PreparedCheck},
        failure::ProbeFailure,
        probe::{Outcome, ProbeEndpoint, ProbeSuccess},
    },
};

fn command(command: &[&str], weight: bool) -> Check {
    Check::Exec(Exec {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        environment: BTreeMap::from([("GREETING".to_owned(), "hello  you".to_owned())]),
        weight_from_exit_code: weight,
    })
}

fn shell(script: &str) -> Check {
    command(&["sh", "-c", script], false)
}

async fn ran(script: &str) -> Outcome {
    probe(&shell(script), &endpoint(80)).await
}

fn failed(code: i32, stderr: &str) -> Outcome {
    let stderr = stderr.to_owned();
    Err(ProbeFailure::CommandFailed { code, stderr })
}

#[tokio::test]
async fn the_exit_status_decides() {
    assert_eq!(ran("exit 0").await, PASSED);
    assert_eq!(ran("exit 1").await, failed(1, ""));
    assert_eq!(ran("exit 7").await, failed(7, ""));
    assert_eq!(ran("kill -TERM $$").await, Err(ProbeFailure::CommandKilled(15)));
}

#[tokio::test]
async fn keepalived_s_weights_are_taken_when_asked_for() {
    let ran = async |script| probe(&command(&["sh", "-c", script], true), &endpoint(80)).await;
    assert_eq!(ran("exit 0").await, PASSED);
    assert_eq!(ran("exit 1").await, failed(1, ""));
    for (script, weight) in [("exit 2", 0), ("exit 12", 10), ("exit 255", 253)] {
        let weight = Some(weight);
        assert_eq!(ran(script).await, Ok(ProbeSuccess { weight }), "{script}");
    }
}

#[tokio::test]
async fn the_end_of_what_it_says_is_the_reason() {
    let script = "echo first >&2; echo 'no space  left' >&2; echo >&2; exit 3";
    assert_eq!(ran(script).await, failed(3, "no space  left"));
    // More than a pipe holds.
    let script = "i=0; while [ $i -lt 3000 ]; do echo 'a line of forty letters, more or less: yes' >&2; i=$((i+1)); done; \
                  printf 'the\\033 end' >&2; exit 4";
    assert_eq!(ran(script).await, failed(4, "the end"));
    assert_eq!(
        failed(4, "the end").unwrap_err().to_string(),
        "command ended with status 4: the end"
    );
}

#[tokio::test]
async fn it_knows_whom_to_ask_and_nothing_else() {
    let script = "[ \"$LBX_VIP $LBX_RIP $LBX_PORT $LBX_TIMEOUT\" = '192.0.2.1 127.0.0.1 8080 5' ] || exit 2; \
                  [ \"$GREETING\" = 'hello  you' ] || exit 3; [ -n \"$PATH\" ] || exit 4; \
                  ! env | grep -Ev '^(LBX_(VIP|RIP|PORT|TIMEOUT)|GREETING|PATH)=|^(PWD|OLDPWD|SHLVL|_)=' >&2 || exit 5";
    assert_eq!(probe(&shell(script), &endpoint(8080)).await, PASSED);
}

#[tokio::test]
async fn what_cannot_be_started_is_not_the_server_s_fault() {
    let outcome = probe(&command(&["/nonexistent/check"], false), &endpoint(80)).await;
    let Err(ProbeFailure::CannotProbe(why)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(why.starts_with("/nonexistent/check: "), "{why}");
    for words in [&[][..], &[""]] {
        let error = PreparedCheck::new(&command(words, false)).unwrap_err();
        assert!(matches!(error, CheckError::NoCommand));
    }
}

#[tokio::test]
async fn its_whole_group_is_killed_when_time_is_over() {
    let endpoint = ProbeEndpoint {
        timeout: Duration::from_millis(300),
        ..endpoint(80)
    };
    // The sleep is a child of the shell, and both hold standard error.
    let directory = std::env::temp_dir().join(format!("lbx-exec-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("pid");
    let script = format!("sleep 60 & echo $! > {}; wait", file.display());
    let begin = Instant::now();
    assert_eq!(
        probe(&shell(&script), &endpoint).await,
        Err(ProbeFailure::IncompleteReply(endpoint.timeout))
    );
    assert!(begin.elapsed() < Duration::from_secs(5));
    let sleeper = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    gone(sleeper.trim()).await;
}

#[tokio::test]
async fn somebody_it_leaves_behind_does_not_hold_it_up() {
    let begin = Instant::now();
    assert_eq!(ran("sleep 2 & exit 0").await, PASSED);
    assert!(begin.elapsed() < Duration::from_secs(2));
}

/// Waits until a process is dead; who reaps it is not known.
async fn gone(process: &str) {
    let stat = Path::new("/proc").join(process).join("stat");
    for _ in 0..100 {
        match std::fs::read_to_string(&stat) {
            Ok(stat) if !stat.contains(") Z ") => tokio::time::sleep(Duration::from_millis(20)).await,
            _ => return,
        }
    }
    panic!("process {process} is still there");
}

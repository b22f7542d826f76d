use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 0xa];
const B: [u8; 6] = [2, 0, 0, 0, 0, 0xb];
const SECOND: Duration = Duration::from_secs(1);

/// A real server, hosts that answer for it, and a clock.
struct Scene {
    resolution: Resolution,
    /// Hosts that are there, in the order in which they answer.
    hosts: Vec<[u8; 6]>,
    now: Instant,
    events: Vec<ConflictEvent>,
    /// What was sent.
    sent: Vec<Due>,
}

impl Scene {
    fn new(hosts: &[[u8; 6]]) -> Self {
        let now = Instant::now();
        Self {
            resolution: Resolution::unknown(now),
            hosts: hosts.to_vec(),
            now,
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// A tick of 50 ms: what was sent in the one before is answered.
    fn tick(&mut self) {
        self.now += Duration::from_millis(50);
        let wakes_at = self.resolution.wakes_at();
        if self.now < wakes_at {
            let before = self.resolution.clone();
            self.resolution.on_time(self.now, &mut self.events);
            assert_eq!((&self.resolution, self.resolution.due(self.now)), (&before, None));
            return;
        }
        self.resolution.on_time(self.now, &mut self.events);
        if let Some(due) = self.resolution.due(self.now) {
            self.resolution.sent(due, self.now, SECOND);
            self.sent.push(due);
            let answering: Vec<_> = match due {
                Due::Unicast(mac) | Due::ConflictCheck(mac) => {
                    self.hosts.iter().copied().filter(|host| *host == mac).collect()
                }
                Due::First | Due::Silent(_) | Due::Unresolved => self.hosts.clone(),
            };
            answering.into_iter().for_each(|host| self.states(host));
        }
    }

    fn states(&mut self, host: [u8; 6]) {
        self.resolution.on_binding(host, self.now, &mut self.events);
    }

    fn run(&mut self, seconds: u32) {
        (0..seconds * 20).for_each(|_| self.tick());
    }

    /// Ticks until the MAC address is this one: how long that takes.
    fn until(&mut self, mac: Option<[u8; 6]>) -> Duration {
        let begin = self.now;
        while self.resolution.usable_mac() != mac {
            self.tick();
            assert!(self.now - begin < 60 * SECOND, "never {mac:?}");
        }
        self.now - begin
    }

    fn conflicts(&self) -> Vec<[u8; 6]> {
        self.resolution.conflicting_macs().collect()
    }
}

#[test]
fn one_that_answers_is_solicited_by_unicast_alone() {
    let mut scene = Scene::new(&[A]);
    scene.run(30);
    assert_eq!(scene.sent[0], Due::First);
    assert!(
        scene.sent[1..].iter().all(|due| *due == Due::Unicast(A)),
        "{:?}",
        scene.sent
    );
    assert!((28..=31).contains(&scene.sent.len()));
    assert_eq!(scene.events, []);
}

#[test]
fn a_silent_change_is_followed_and_no_conflict() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts = vec![B];
    let took = scene.until(Some(B));
    assert!(took <= Duration::from_millis(1_500), "{took:?}");
    scene.run(90);
    assert_eq!(scene.events, []);
}

#[test]
fn an_announced_change_is_followed_at_once_and_no_conflict() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts = vec![B];
    scene.states(B);
    let took = scene.until(Some(B));
    assert!(took <= Duration::from_millis(500), "{took:?}");
    scene.run(90);
    assert_eq!(scene.events, []);
}

#[test]
fn one_that_answers_keeps_its_connections_whatever_others_state() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts = vec![B, A];
    for _ in 0..100 {
        scene.states(B);
        scene.tick();
        assert_eq!(scene.resolution.usable_mac(), Some(A));
    }
    assert_eq!(scene.events, [ConflictEvent::Begun { mac: A, other: B }]);
    assert_eq!(scene.conflicts(), [B]);
}

#[test]
fn two_that_answer_from_the_start_are_a_conflict() {
    for hosts in [[A, B], [B, A]] {
        let mut scene = Scene::new(&hosts);
        scene.run(2);
        let [mac, other] = hosts;
        assert_eq!(scene.resolution.usable_mac(), Some(mac));
        assert_eq!(scene.events, [ConflictEvent::Begun { mac, other }]);
    }
}

#[test]
fn a_conflict_ends_when_the_other_host_is_gone() {
    let mut scene = Scene::new(&[A, B]);
    scene.run(120);
    assert_eq!(scene.conflicts(), [B], "it is kept as long as the other answers");
    assert_eq!(scene.events.len(), 1);
    scene.hosts = vec![A];
    scene.run(45);
    assert_eq!(scene.conflicts(), [[0; 6]; 0]);
    assert_eq!(scene.events[1..], [ConflictEvent::Ended { other: B }]);
}

#[test]
fn the_other_host_takes_over_when_the_one_in_use_is_gone() {
    let mut scene = Scene::new(&[A, B]);
    scene.run(5);
    scene.hosts = vec![B];
    let took = scene.until(Some(B));
    assert!(took <= Duration::from_millis(1_500), "{took:?}");
}

#[test]
fn a_move_back_within_a_minute_is_a_conflict() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts = vec![B];
    scene.until(Some(B));
    scene.run(20);
    assert_eq!(scene.events, []);
    scene.hosts = vec![A];
    scene.until(Some(A));
    assert_eq!(scene.events, [ConflictEvent::Begun { mac: A, other: B }]);
    scene.run(45);
    assert_eq!(scene.events[1..], [ConflictEvent::Ended { other: B }]);
}

#[test]
fn a_move_back_after_more_than_a_minute_is_none() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts = vec![B];
    scene.until(Some(B));
    scene.run(70);
    scene.hosts = vec![A];
    scene.until(Some(A));
    assert_eq!(scene.events, []);
}

#[test]
fn a_short_silence_loses_nothing_and_a_long_one_the_mac_address() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.hosts.clear();
    scene.run(7);
    assert_eq!(scene.resolution.usable_mac(), Some(A));
    scene.hosts = vec![A];
    scene.run(5);
    scene.hosts.clear();
    let took = scene.until(None);
    assert!((7 * SECOND..=10 * SECOND).contains(&took), "{took:?}");
    scene.run(60);
    scene.hosts = vec![A];
    let took = scene.until(Some(A));
    assert!(took <= SECOND + Duration::from_millis(50), "{took:?}");
    assert_eq!(scene.events, []);
}

#[test]
fn time_without_solicitations_loses_nothing() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    // The daemon was stopped for a minute.
    scene.now += 60 * SECOND;
    scene.run(5);
    assert_eq!(scene.resolution.usable_mac(), Some(A));
}

#[test]
fn the_operators_entry_is_left_alone() {
    let mut scene = Scene::new(&[A]);
    scene.run(5);
    scene.resolution.on_kernel_entry(Some(B), true, scene.now);
    scene.sent.clear();
    scene.states(A);
    scene.run(60);
    assert_eq!(scene.resolution.usable_mac(), Some(B));
    assert_eq!(scene.sent, []);
    scene.resolution.on_kernel_entry(None, false, scene.now);
    let took = scene.until(Some(A));
    assert!(took <= SECOND, "{took:?}");
    assert_eq!(scene.events, []);
}

#[test]
fn what_the_kernel_has_learned_is_a_start_only() {
    let mut scene = Scene::new(&[A]);
    scene.resolution.on_kernel_entry(Some(B), false, scene.now);
    assert_eq!(scene.resolution.usable_mac(), Some(B));
    scene.until(Some(A));
    scene.resolution.on_kernel_entry(Some(B), false, scene.now);
    scene.run(5);
    assert_eq!(scene.resolution.usable_mac(), Some(A));
    assert_eq!(scene.events, []);
}

#[test]
fn a_flood_of_forged_statements_is_bounded() {
    let mut scene = Scene::new(&[A]);
    scene.run(2);
    for n in 0..=255 {
        scene.states([2, 0, 0, 0, 1, n]);
        scene.tick();
    }
    assert_eq!(scene.resolution.usable_mac(), Some(A));
    assert_eq!(scene.conflicts().len(), MAX_OTHERS);
    assert_eq!(scene.events.len(), MAX_OTHERS);
}

#[test]
fn one_that_answers_late_is_solicited_soon_again() {
    let mut scene = Scene::new(&[]);
    scene.tick();
    // One of many that have no MAC address.
    scene.run(2);
    scene.resolution.sent(Due::Unresolved, scene.now, 100 * SECOND);
    scene.hosts = vec![A];
    scene.states(A);
    scene.sent.clear();
    scene.run(2);
    assert_eq!(scene.sent[0], Due::Unicast(A));
}

//! The order of notifications: those of one subject one after the other, those of others at the same time, and what concerns
//! the whole director or a service before what concerns one real server.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use crate::desired::VirtualService;

/// What a notification is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The director.
    Director,
    /// A service: its quorum.
    Service(VirtualService),
    /// A real server of a service.
    Server(VirtualService, IpAddr),
}

impl Subject {
    const fn is_urgent(self) -> bool {
        !matches!(self, Self::Server(..))
    }
}

/// Commands that run at the same time for real servers, and as many again for all else: a slow command for ten real servers
/// does not delay that a service is down.
pub const MAX_PARALLEL_COMMANDS: usize = 8;

/// Jobs that wait, and the subjects whose jobs run.
#[derive(Debug)]
pub struct NotifyQueue<J> {
    waiting: BTreeMap<Subject, VecDeque<J>>,
    /// Subjects with a job that may begin, in the order in which it became so: urgent ones, and others.
    ready: [VecDeque<Subject>; 2],
    running: [BTreeSet<Subject>; 2],
}

impl<J> Default for NotifyQueue<J> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            ready: Default::default(),
            running: Default::default(),
        }
    }
}

/// Index of a subject's class.
const fn class(subject: Subject) -> usize {
    if subject.is_urgent() { 0 } else { 1 }
}

impl<J> NotifyQueue<J> {
    /// Queues a job behind others of its subject.
    pub fn push(&mut self, subject: Subject, job: J) {
        let jobs = self.waiting.entry(subject).or_default();
        jobs.push_back(job);
        if jobs.len() == 1 && !self.running[class(subject)].contains(&subject) {
            self.ready[class(subject)].push_back(subject);
        }
    }

    /// The next job that may begin; its subject is running until it has [ended](Self::on_job_ended).
    pub fn next(&mut self) -> Option<(Subject, J)> {
        for (ready, running) in self.ready.iter_mut().zip(&mut self.running) {
            if running.len() >= MAX_PARALLEL_COMMANDS {
                continue;
            }
            while let Some(subject) = ready.pop_front() {
                let Some(job) = self.waiting.get_mut(&subject).and_then(VecDeque::pop_front) else {
                    continue;
                };
                running.insert(subject);
                return Some((subject, job));
            }
        }
        None
    }

    /// A job of a subject has ended.
    pub fn on_job_ended(&mut self, subject: Subject) {
        self.running[class(subject)].remove(&subject);
        match self.waiting.get(&subject) {
            Some(jobs) if !jobs.is_empty() => self.ready[class(subject)].push_back(subject),
            _ => {
                self.waiting.remove(&subject);
            }
        }
    }

    /// Whether nothing waits and nothing runs.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.values().all(VecDeque::is_empty) && self.running.iter().all(BTreeSet::is_empty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Protocol;

    const WEB: VirtualService = VirtualService {
        vip: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        port: 80,
        protocol: Protocol::Tcp,
    };

    fn server(number: u8) -> Subject {
        Subject::Server(WEB, IpAddr::from([10, 0, 0, number]))
    }

    fn begun(queue: &mut NotifyQueue<u32>) -> Vec<u32> {
        std::iter::from_fn(|| queue.next()).map(|(_, job)| job).collect()
    }

    #[test]
    fn jobs_of_one_subject_run_one_after_the_other() {
        let mut queue = NotifyQueue::default();
        for job in 0..3 {
            queue.push(server(1), job);
        }
        queue.push(server(2), 9);
        assert_eq!(begun(&mut queue), [0, 9]);
        queue.on_job_ended(server(1));
        assert_eq!(begun(&mut queue), [1]);
        queue.on_job_ended(server(2));
        assert!(begun(&mut queue).is_empty());
        queue.on_job_ended(server(1));
        assert_eq!(begun(&mut queue), [2]);
        assert!(!queue.is_idle());
        queue.on_job_ended(server(1));
        assert!(queue.is_idle());
    }

    #[test]
    fn a_lost_quorum_waits_for_no_real_server() {
        let mut queue = NotifyQueue::default();
        for number in 0..20 {
            queue.push(server(number), number.into());
        }
        assert_eq!(begun(&mut queue).len(), MAX_PARALLEL_COMMANDS);
        queue.push(Subject::Service(WEB), 100);
        queue.push(Subject::Director, 101);
        assert_eq!(begun(&mut queue), [100, 101]);
        // What waits begins in the order in which it came.
        queue.on_job_ended(server(3));
        assert_eq!(begun(&mut queue), [8]);
        // Of what waits together, the service comes first.
        queue.on_job_ended(Subject::Service(WEB));
        queue.on_job_ended(server(0));
        queue.push(Subject::Service(WEB), 102);
        assert_eq!(begun(&mut queue), [102, 9]);
    }
}

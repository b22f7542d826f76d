//! The targets of lbx: ratios of rows, computed round by round.

use crate::{
    measure::Measured,
    program::{Mode, Program},
    rows::{MAGLEV, MILLION, RR, Row},
    statistics::{Summary, ratios},
    traffic::{Ip, Packet, Traffic},
};

/// A target.
pub struct Target {
    /// The row measured.
    pub of: Row,
    /// The row it is compared with.
    pub with: Row,
    /// Upper limit of the ratio.
    pub limit: f64,
    /// Share of the flows that may have no entry.
    pub missing: Option<f64>,
}

/// A target and the result of lbx.
pub struct Evaluated {
    /// The target.
    pub target: Target,
    /// The ratio.
    pub ratio: Summary,
    /// Flows without an entry.
    pub missing: Option<u64>,
}

impl Evaluated {
    /// Whether it is met.
    pub fn met(&self) -> bool {
        let few = match (self.target.missing, self.missing) {
            (Some(share), Some(missing)) => missing as f64 <= share * f64::from(self.target.of.traffic.flows),
            _ => true,
        };
        self.ratio.median <= self.target.limit && few
    }
}

/// All targets.
pub fn all() -> Vec<Target> {
    let target = |of, with, limit| Target {
        of,
        with,
        limit,
        missing: None,
    };
    let established = Row::established;
    let reference = |flows| established(Program::Reference, flows);
    let sh = Program::Lbx(Mode::Sh);
    let mut targets = Vec::new();
    for hashed in [MAGLEV, sh] {
        targets.push(target(established(hashed, 1), reference(1), 1.0));
        targets.push(target(established(hashed, MILLION), reference(MILLION), 0.12));
        targets.push(target(established(hashed, MILLION), established(hashed, 1), 1.5));
    }
    targets.push(target(established(MAGLEV, 4 * MILLION), reference(4 * MILLION), 0.12));
    targets.push(target(established(MAGLEV, 4 * MILLION), established(MAGLEV, 1), 1.5));
    let opening = Traffic {
        packet: Packet::Syn,
        ..Traffic::established(MILLION)
    };
    targets.push(target(Row::new(MAGLEV, opening), established(MAGLEV, MILLION), 1.5));
    targets.push(target(established(RR, 1_000), reference(1_000), 1.1));
    targets.push(Target {
        // Two buckets of four lose 0.003 % of the flows at half load.
        missing: Some(1e-4),
        ..target(established(RR, MILLION), reference(MILLION), 0.7)
    });
    for program in [MAGLEV, RR] {
        for flows in [1, MILLION] {
            let ipv6 = Traffic {
                ip: Ip::V6,
                ..Traffic::established(flows)
            };
            targets.push(target(Row::new(program, ipv6), established(program, flows), 1.4));
        }
    }
    let other_traffic = Traffic {
        to_vip: false,
        ..Traffic::established(MILLION)
    };
    targets.push(target(
        Row::new(MAGLEV, other_traffic),
        established(MAGLEV, MILLION),
        0.6,
    ));
    let many = Traffic {
        services: 10_000,
        ..Traffic::established(MILLION)
    };
    targets.push(target(Row::new(MAGLEV, many), Row::new(Program::Reference, many), 0.7));
    targets
}

/// Evaluates the targets whose rows were measured.
pub fn evaluate(measured: &[&Measured]) -> Vec<Evaluated> {
    let find = |row: Row| measured.iter().find(|measured| measured.row == row);
    let evaluated = all().into_iter().filter_map(|target| {
        let (of, with) = (find(target.of)?, find(target.with)?);
        Some(Evaluated {
            target,
            ratio: Summary::of(&ratios(&of.net, &with.net))?,
            missing: of.missing,
        })
    });
    evaluated.collect()
}

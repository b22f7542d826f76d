//! lbx: layer-4 load balancing by direct server return on XDP.
//!
//! A tour, in the order a configuration file takes:
//!
//! - [`config`]: `lb.yaml` as written, with the position of every value, validated into
//! - [`desired`]: the state the operator wants, defaults resolved;
//! - [`schedule`]: the maglev table and the weighted ring, pure functions of real servers and weights;
//! - [`tables`]: the loaded state, and the one pure function that plans the writes from there to the desired state;
//! - [`dataplane`]: the kernel program, its maps, pins and links: the only code that touches BPF;
//! - [`net`]: NICs, routes, neighbours, addresses and ARP over netlink and packet sockets;
//! - [`health`]: health checks of the real servers, and the state that follows from them;
//! - [`director`]: the daemon: one loop that drives all of the above;
//! - [`control`]: the socket between the daemon and `lbx list`, `lbx trace`;
//! - [`realserver`]: the real server's side: VIP on lo, host route, ARP sysctls;
//! - [`command`]: commands of the operator, for checks and notifications;
//! - [`kernel`]: its version, and what older ones lack;
//! - [`preflight`]: privileges, kernel, and one process per name;
//! - [`stale_files`]: what network namespaces that are gone have left in `/run/lbx`;
//! - [`cli`], [`exit`]: a file per subcommand, and every exit status.

pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod dataplane;
pub mod desired;
pub mod director;
pub mod exit;
pub mod health;
pub mod kernel;
pub mod net;
pub mod preflight;
pub mod realserver;
pub mod schedule;
pub mod stale_files;
pub mod tables;

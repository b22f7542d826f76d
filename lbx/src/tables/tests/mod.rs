//! Tests of the tables as a whole: no kernel, no network, no clock but one that is told what time it is.

mod cluster;
mod history;
mod image;
mod packets;
mod promise;
mod world;

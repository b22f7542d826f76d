//! The lbx binary: everything lives in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    lbx::cli::main()
}

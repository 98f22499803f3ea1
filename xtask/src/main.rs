//! The project's own commands: `cargo xtask test`, `cargo xtask ci`, `cargo xtask e2e`.

#![expect(clippy::print_stdout, reason = "a command line tool: what it prints is what it is for")]

mod failure;
mod process;
mod tidy;

fn main() {
    println!("{:?}", tidy::check(&process::project_root()));
}

//! Sets the build date as for the server.

#[path = "../node/build.rs"]
mod server;

fn main() {
    server::main();
}

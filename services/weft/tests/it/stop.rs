//! How it ends.

use std::time::Duration;

use crate::program::Mesh;

#[test]
fn a_signal_ends_it_in_order_and_the_data_can_be_used_again() {
    for signal in ["TERM", "INT"] {
        let mesh = Mesh::start();
        assert_eq!(mesh.signal_and_wait(signal, Duration::from_secs(20)), 0);
    }
}

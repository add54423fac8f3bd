//! What the mesh says of itself.

use serde_json::Value;

use crate::program::Mesh;

#[test]
fn every_service_is_up_and_says_so_to_people_and_programs() {
    let mesh = Mesh::start();
    for service in ["gateway", "cache", "database", "queue", "assets"] {
        assert!(
            mesh.summary.lines().any(|line| line.starts_with(service) && line.contains(" ready")),
            "{}",
            mesh.summary
        );
    }
    assert!(!mesh.summary.contains('\u{1b}'), "escape codes without a terminal");

    let said = mesh.run(&["status"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.starts_with("gateway up ") && !said.out.contains('\u{1b}'), "{}", said.out);

    let said = mesh.run(&["status", "--json"]);
    let status: Value = serde_json::from_str(&said.out).unwrap();
    for (pool, backend) in [("cache", "memory"), ("database", "sqlite"), ("assets", "filesystem")] {
        let services = status["services"].as_array().unwrap();
        let service = services.iter().find(|service| service["pool"] == pool).unwrap();
        assert_eq!(service["replicas"][0]["health"], "healthy", "{service}");
        assert_eq!(service["sum"]["stats"]["backend"], backend, "{service}");
    }
}

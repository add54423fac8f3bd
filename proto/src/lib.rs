//! The contracts of the mesh and their Rust bindings.
//!
//! The `.proto` files under `weft/` are the source of truth, comments included; everything here is generated from them
//! at build time. One module per package: [`cache::v1`], [`database::v1`], [`queue::v1`], [`assets::v1`],
//! [`gateway::v1`], and [`common::v1`] for what they say alike.

#![forbid(unsafe_code)]

macro_rules! package {
    ($name:ident, $path:literal) => {
        #[doc = concat!("Package `", $path, "`.")]
        pub mod $name {
            /// Version 1, which only grows.
            #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::unwrap_used)]
            #[allow(rustdoc::all)]
            pub mod v1 {
                tonic::include_proto!($path);
            }
        }
    };
}

package!(common, "weft.common.v1");
package!(cache, "weft.cache.v1");
package!(database, "weft.database.v1");
package!(queue, "weft.queue.v1");
package!(assets, "weft.assets.v1");
package!(gateway, "weft.gateway.v1");

/// The descriptors of every package, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/weft.bin"));

/// The type URL under which a message travels in a `google.protobuf.Any`.
#[must_use]
pub fn type_url(full_name: &str) -> String {
    format!("type.googleapis.com/{full_name}")
}

//! Resolves the table `[otlp]`.

use std::net::SocketAddr;

use toml::Spanned;

use super::{
    declare::{Located, Location},
    keys::{OtlpEntries, OtlpOptions, RawOtlp},
    load::Resolver,
};
use crate::policy::Otlp;

impl Resolver {
    pub(super) fn otlp(
        &mut self,
        file: Option<Spanned<RawOtlp>>,
        options: &OtlpOptions,
    ) -> Option<Otlp> {
        let file = file?;
        let table = Location::File(file.span());
        let OtlpEntries { endpoint, sampling, paths } = file.into_inner().entries(options);
        if cfg!(not(feature = "otlp")) {
            let help = "remove `[otlp]`, or build with `--features otlp`";
            self.problems.add(Some(&table), "this build does not support traces", Some(help));
            return None;
        }
        let Some(Located { value: endpoint, at }) = endpoint.written else {
            let help = "write `endpoint = \"http://127.0.0.1:4318\"`";
            self.problems.add(Some(&table), "`[otlp]` has no `endpoint`", Some(help));
            return None;
        };
        let Some((address, base)) = parse(&endpoint) else {
            let message = format!("`{endpoint}` is not an endpoint");
            let help = "an endpoint is `http://IP:PORT`, or `http://localhost:PORT`: host names are not resolved, and for TLS use a collector on this machine";
            self.problems.add(Some(&at), message, Some(help));
            return None;
        };
        let (sampling, paths) = (sampling.value()?, paths.value()?);
        Some(Otlp { address, base, sampling, paths })
    }
}

/// The address, and the path in front of `/v1/traces`.
fn parse(endpoint: &str) -> Option<(SocketAddr, String)> {
    let rest = endpoint.strip_prefix("http://")?;
    let (host, base) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let address = match host.strip_prefix("localhost:") {
        Some(port) => SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)),
        None => host.parse().ok()?,
    };
    let base = base.trim_end_matches('/');
    let is_path = base.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#".contains(&byte));
    (is_path && address.port() != 0).then(|| (address, base.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_address_with_a_port_and_perhaps_a_path() {
        let parsed = |endpoint| parse(endpoint).map(|(address, base)| format!("{address}{base}"));
        for (endpoint, expected) in [
            ("http://127.0.0.1:4318", Some("127.0.0.1:4318")),
            ("http://localhost:4318/", Some("127.0.0.1:4318")),
            ("http://[::1]:4318/otel/", Some("[::1]:4318/otel")),
            ("https://127.0.0.1:4318", None),
            ("http://127.0.0.1", None),
            ("http://127.0.0.1:0", None),
            ("http://collector:4318", None),
            ("http://127.0.0.1:4318/a b", None),
            ("http://127.0.0.1:4318/a?b", None),
            ("127.0.0.1:4318", None),
        ] {
            assert_eq!(parsed(endpoint).as_deref(), expected, "{endpoint}");
        }
    }
}

//! Settings (external-apis §1.3).

use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde_json::Value;

use super::answer::{Answered, Refusal, empty, json_of};
use super::store::Store;
use crate::{DhcpConfig, IpamConfig, KernelParams};

/// Settings are small; this is more than any has.
const LARGEST: usize = 1 << 20;

pub(super) async fn get_ipam(State(store): State<Arc<Store>>) -> Answered {
    let config = store.look(|model| model.ipam.clone());
    json_of(&config.ok_or_else(Refusal::not_found)?)
}

pub(super) async fn put_ipam(State(store): State<Arc<Store>>, request: Request) -> Answered {
    let config: IpamConfig = body_json(request).await?;
    check_ipam(&config).map_err(Refusal::invalid)?;
    store.change(|model| {
        if !model.machines.is_empty() {
            return Err(Refusal::internal("machines already exist"));
        }
        model.ipam = Some(config);
        Ok(())
    })?;
    json_of(&Value::Null)
}

pub(super) async fn get_dhcp(State(store): State<Arc<Store>>) -> Answered {
    let config = store.look(|model| model.dhcp.clone());
    json_of(&config.ok_or_else(Refusal::not_found)?)
}

pub(super) async fn put_dhcp(State(store): State<Arc<Store>>, request: Request) -> Answered {
    let config: DhcpConfig = body_json(request).await?;
    store.change(|model| {
        model.dhcp = Some(config);
        Ok(())
    })?;
    json_of(&Value::Null)
}

pub(super) async fn get_kernel_params(
    State(store): State<Arc<Store>>,
    Path(os): Path<String>,
) -> Answered {
    let params = store.look(|model| model.kernel_params.get(&os).cloned());
    let params = params.ok_or_else(Refusal::not_found)?;
    Ok(([(CONTENT_TYPE, "text/plain")], params).into_response())
}

pub(super) async fn put_kernel_params(
    State(store): State<Arc<Store>>,
    Path(os): Path<String>,
    request: Request,
) -> Answered {
    let body = body(request, LARGEST, Refusal::invalid("too long")).await?;
    let is_os = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.';
    let text = String::from_utf8(body.to_vec()).map_err(Refusal::invalid)?;
    if os.is_empty() || !os.bytes().all(is_os) {
        return Err(Refusal::invalid("bad os"));
    }
    let params = KernelParams::new(text).map_err(Refusal::invalid)?;
    store.change(|model| {
        model.kernel_params.insert(os, params.as_str().to_owned());
        Ok(())
    })?;
    json_of(&Value::Null)
}

/// A body of at most `limit` bytes.
pub(super) async fn body(
    request: Request,
    limit: usize,
    too_large: Refusal,
) -> Result<Bytes, Refusal> {
    to_bytes(request.into_body(), limit).await.map_err(|_| too_large)
}

pub(super) async fn body_json<T: serde::de::DeserializeOwned>(
    request: Request,
) -> Result<T, Refusal> {
    let body = body(request, LARGEST, Refusal::invalid("too long")).await?;
    serde_json::from_slice(&body).map_err(Refusal::invalid)
}

/// Nothing but a status.
pub(super) fn ok() -> Answered {
    Ok(empty(StatusCode::OK))
}

fn check_ipam(config: &IpamConfig) -> Result<(), &'static str> {
    let numbers = [
        config.max_nodes_in_rack,
        config.node_ipv4_range_size,
        config.node_ip_per_node,
        config.node_index_offset,
        config.node_gateway_offset,
        config.bmc_ipv4_range_size,
        config.bmc_ipv4_gateway_offset,
    ];
    if numbers.contains(&0) {
        return Err("a number is 0");
    }
    let masks = [config.node_ipv4_range_mask, config.bmc_ipv4_range_mask];
    if masks.iter().any(|mask| !(8..=32).contains(mask)) {
        return Err("a mask is not between 8 and 32");
    }
    let pools = [config.node_ipv4_pool, config.bmc_ipv4_pool];
    if pools.iter().any(|pool| pool.network() != pool.addr()) {
        return Err("a pool has host bits");
    }
    Ok(())
}

//! OS images (external-apis §1.4).

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use sha2::{Digest as _, Sha256};

use super::answer::{Answered, Refusal, empty, json_of};
use super::model::{StoredImage, now};
use super::serve::Advertised;
use super::settings::ok;
use super::store::Store;
use crate::{ContentDigest, ImageId, OS, OsImage};

/// How many images are kept.
const KEPT: usize = 5;

pub(super) async fn index(State(store): State<Arc<Store>>, Path(os): Path<String>) -> Answered {
    known(&os)?;
    let images: Vec<OsImage> =
        store.look(|model| model.images.iter().map(|image| image.index.clone()).collect());
    json_of(&images)
}

pub(super) async fn put(
    State(store): State<Arc<Store>>,
    Extension(Advertised(advertised)): Extension<Advertised>,
    Path((os, id)): Path<(String, String)>,
    request: Request,
) -> Answered {
    let mut members = Members::default();
    let received = store.receive(request.into_body(), |piece| members.feed(piece)).await?;
    known(&os)?;
    let id = ImageId::new(id).map_err(Refusal::invalid)?;
    let members = members.finish()?;
    store.change(|model| {
        if model.deleted_images.iter().any(|deleted| deleted == id.as_str()) {
            return Err(Refusal::conflict());
        }
        let known = model.images.iter().position(|image| image.index.id == id);
        let image = match known.map(|at| model.images.remove(at)) {
            Some(known) if known.members != members => {
                return Err(Refusal::internal("image with the same id has another content"));
            }
            Some(known) => known,
            None => StoredImage {
                index: OsImage {
                    date: now(),
                    size: received.size,
                    urls: vec![format!("{advertised}api/v1/images/{OS}/{id}")],
                    exists: true,
                    id,
                },
                members,
                archive: received.sha256,
            },
        };
        model.images.push(image);
        while model.images.len() > KEPT {
            let oldest = model.images[0].index.id.to_string();
            model.forget_image(&oldest);
        }
        Ok(())
    })?;
    Ok(empty(StatusCode::CREATED))
}

pub(super) async fn get(
    State(store): State<Arc<Store>>,
    Path((os, id)): Path<(String, String)>,
) -> Answered {
    known(&os)?;
    let image =
        store.look(|model| model.images.iter().find(|i| i.index.id.as_str() == id).cloned());
    let image = image.filter(|image| image.index.exists).ok_or_else(Refusal::not_found)?;
    let body = store.content(&image.archive).await?;
    Ok(([(CONTENT_TYPE, "application/tar")], body).into_response())
}

pub(super) async fn delete(
    State(store): State<Arc<Store>>,
    Path((os, id)): Path<(String, String)>,
) -> Answered {
    known(&os)?;
    store.change(|model| {
        if !model.images.iter().any(|image| image.index.id.as_str() == id) {
            return Err(Refusal::not_found());
        }
        model.forget_image(&id);
        Ok(())
    })?;
    ok()
}

fn known(os: &str) -> Result<(), Refusal> {
    if os == OS { Ok(()) } else { Err(Refusal::invalid("bad os")) }
}

/// Reads an archive piece by piece: names, sizes, and the digest of what is in it.
struct Members {
    names: Vec<String>,
    digest: Sha256,
    /// A header that is not complete yet.
    header: Vec<u8>,
    /// How much of the current member is to come, and how much padding after it.
    left: u64,
    padding: u64,
    /// Whether the end was read.
    ended: bool,
    broken: Option<&'static str>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            names: Vec::new(),
            digest: Sha256::new(),
            header: Vec::new(),
            left: 0,
            padding: 0,
            ended: false,
            broken: None,
        }
    }
}

impl Members {
    fn feed(&mut self, mut piece: &[u8]) {
        while !piece.is_empty() && !self.ended && self.broken.is_none() {
            let taken = if self.left > 0 {
                let taken = within(piece, self.left);
                self.digest.update(&piece[..taken]);
                self.left -= taken as u64;
                taken
            } else if self.padding > 0 {
                let taken = within(piece, self.padding);
                self.padding -= taken as u64;
                taken
            } else {
                let taken = within(piece, 512 - self.header.len() as u64);
                self.header.extend_from_slice(&piece[..taken]);
                if self.header.len() == 512 {
                    let header = std::mem::take(&mut self.header);
                    self.begin(&header);
                }
                taken
            };
            piece = &piece[taken..];
        }
    }

    fn begin(&mut self, header: &[u8]) {
        if header.iter().all(|byte| *byte == 0) {
            self.ended = true;
            return;
        }
        let sum = header
            .iter()
            .enumerate()
            .map(|(at, byte)| u64::from(if (148..156).contains(&at) { b' ' } else { *byte }));
        let sum: u64 = sum.sum();
        match (octal(&header[124..136]), octal(&header[148..156])) {
            (Some(size), Some(told)) if told == sum => {
                let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
                let name = String::from_utf8_lossy(name).into_owned();
                self.digest.update(format!("{name} {size}\n"));
                self.names.push(name);
                self.left = size;
                self.padding = size.next_multiple_of(512) - size;
            }
            _ => self.broken = Some("archive/tar: invalid tar header"),
        }
    }

    fn finish(self) -> Result<ContentDigest, Refusal> {
        if let Some(broken) = self.broken {
            return Err(Refusal::internal(broken));
        }
        if self.left > 0 || self.padding > 0 || !self.ended {
            return Err(Refusal::internal("unexpected EOF"));
        }
        let mut names = self.names;
        names.sort();
        if names != ["initrd.gz", "kernel"] {
            return Err(Refusal::invalid("the archive must hold kernel and initrd.gz alone"));
        }
        Ok(ContentDigest::from_hasher(self.digest))
    }
}

fn within(piece: &[u8], wanted: u64) -> usize {
    usize::try_from(wanted).unwrap_or(usize::MAX).min(piece.len())
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

//! How far a pull has come, out of what Docker tells of each layer.

use std::collections::BTreeMap;

use bollard::models::CreateImageInfo;

use crate::PullProgress;

/// The layers of an image that is pulled.
#[derive(Debug, Default)]
pub(super) struct Progress {
    layers: BTreeMap<String, Layer>,
    /// The most that was told: another try begins anew, but nobody wants to see that.
    most: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Layer {
    done: u64,
    /// `None` while it is not known.
    total: Option<u64>,
    unpacked: u64,
    status: String,
}

impl Progress {
    /// Takes a message; says whether the pull went on by it.
    pub(super) fn note(&mut self, message: &CreateImageInfo) -> bool {
        let (Some(id), Some(status)) = (&message.id, &message.status) else { return true };
        let told = message.progress_detail.as_ref();
        let bytes = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let current = told.and_then(|told| bytes(told.current)).unwrap_or(0);
        let total = told.and_then(|told| bytes(told.total)).filter(|total| *total > 0);
        match status.as_str() {
            "Pulling fs layer" | "Waiting" => self.change(id, status, |_| {}),
            "Downloading" => self.change(id, status, |layer| {
                layer.done = current;
                layer.total = total.or(layer.total).map(|total| total.max(current));
            }),
            "Verifying Checksum" | "Download complete" | "Pull complete" => {
                self.change(id, status, Layer::complete)
            }
            "Extracting" => self.change(id, status, |layer| {
                layer.complete();
                layer.unpacked = current;
            }),
            "Already exists" => self.change(id, status, |layer| layer.total = Some(layer.done)),
            // Docker waits for a registry that is away.
            status if status.starts_with("Retrying") => false,
            _ => true,
        }
    }

    fn change(&mut self, id: &str, status: &str, change: impl FnOnce(&mut Layer)) -> bool {
        let layer = self.layers.entry(id.to_owned()).or_default();
        let before = std::mem::take(layer);
        *layer = Layer { status: status.to_owned(), ..before };
        let before = (layer.done, layer.total, layer.unpacked, before.status);
        change(layer);
        before != (layer.done, layer.total, layer.unpacked, layer.status.clone())
    }

    /// Forgets the layers: there is another try.
    pub(super) fn again(&mut self) {
        self.layers.clear();
    }

    /// How far it has come: the sum over the layers. What is still to come is known when the size of each layer is.
    pub(super) fn so_far(&mut self) -> PullProgress {
        let total: Option<u64> = self.layers.values().map(|layer| layer.total).sum();
        let done = self.layers.values().map(|layer| layer.done).sum();
        self.most = self.most.max(done);
        let total = total.filter(|_| !self.layers.is_empty()).map(|total| total.max(self.most));
        PullProgress { done: self.most, total }
    }

    /// The last report.
    pub(super) fn end(&mut self) -> PullProgress {
        let done = self.so_far().done;
        PullProgress { done, total: Some(done) }
    }
}

impl Layer {
    fn complete(&mut self) {
        self.done = self.total.unwrap_or(self.done);
        self.total = Some(self.done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as Docker 20.10 sends it.
    fn message(text: &str) -> CreateImageInfo {
        serde_json::from_str(text).expect("a message")
    }

    fn layer(id: &str, status: &str, detail: &str) -> CreateImageInfo {
        message(&format!(
            "{{\"status\":\"{status}\",\"progressDetail\":{{{detail}}},\"id\":\"{id}\"}}"
        ))
    }

    fn pair(progress: PullProgress) -> (u64, Option<u64>) {
        (progress.done, progress.total)
    }

    #[test]
    fn layers_are_summed_up_and_the_total_is_known_when_all_sizes_are() {
        let mut progress = Progress::default();
        progress.note(&message(r#"{"status":"Pulling from contract/serf","id":"1"}"#));
        assert_eq!(pair(progress.so_far()), (0, None));
        for (id, status, detail, so_far) in [
            ("a", "Pulling fs layer", "", (0, None)),
            ("b", "Pulling fs layer", "", (0, None)),
            ("c", "Already exists", "", (0, None)),
            ("a", "Downloading", "\"current\":10,\"total\":100", (10, None)),
            ("b", "Downloading", "\"current\":5,\"total\":50", (15, Some(150))),
            ("b", "Download complete", "", (60, Some(150))),
            ("b", "Extracting", "\"current\":7,\"total\":50", (60, Some(150))),
            ("a", "Verifying Checksum", "", (150, Some(150))),
            ("a", "Pull complete", "", (150, Some(150))),
        ] {
            assert!(progress.note(&layer(id, status, detail)), "{id} {status}");
            assert_eq!(pair(progress.so_far()), so_far, "{id} {status}");
        }
        progress.note(&message(r#"{"status":"Digest: sha256:00"}"#));
        assert_eq!(pair(progress.end()), (150, Some(150)));
    }

    #[test]
    fn another_try_does_not_go_back() {
        let mut progress = Progress::default();
        progress.note(&layer("a", "Downloading", "\"current\":90,\"total\":100"));
        assert_eq!(pair(progress.so_far()), (90, Some(100)));
        progress.again();
        progress.note(&layer("a", "Downloading", "\"current\":10,\"total\":100"));
        assert_eq!(pair(progress.so_far()), (90, Some(100)));
        assert_eq!(pair(Progress::default().end()), (0, Some(0)));
    }

    #[test]
    fn a_registry_that_is_waited_for_is_no_progress() {
        let mut progress = Progress::default();
        let downloading = layer("a", "Downloading", "\"current\":90,\"total\":100");
        assert!(progress.note(&downloading));
        assert!(!progress.note(&downloading), "the same again");
        assert!(!progress.note(&layer("a", "Retrying in 4 seconds", "")));
        assert!(!progress.note(&layer("a", "Retrying in 3 seconds", "")));
        assert!(progress.note(&layer("a", "Downloading", "\"current\":91,\"total\":100")));
    }

    #[test]
    fn a_layer_whose_size_is_never_told_counts_as_what_came() {
        let mut progress = Progress::default();
        progress.note(&layer("a", "Downloading", "\"current\":90"));
        assert_eq!(pair(progress.so_far()), (90, None));
        progress.note(&layer("a", "Download complete", ""));
        assert_eq!(pair(progress.so_far()), (90, Some(90)));
    }
}

//! Leads an update: elects, looks, decides, writes; finds releases and sends notices.

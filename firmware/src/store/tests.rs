//! The store over a flash in memory.

use super::*;
use crate::budget::SETTINGS_BYTES_MAX;
use crate::settings::{Settings, VERSION};

fn stored(image: &mut [u8]) -> Option<Settings> {
    let mut flash = RamFlash::new(image, 0x1_0000);
    let mut store = Store::new(Layout::MALTA);
    store.open(Instant::ZERO, &mut flash);
    let (version, body) = store.newest(Instant::ZERO, &mut flash, Kind::Settings)?;
    Settings::decode(version, body)
        .ok()
        .map(|(settings, _)| settings)
}

#[test]
fn a_provisioned_image_holds_the_settings() {
    let mut image = std::vec![0xff; 4 << 20];
    let mut settings = Settings::new();
    for (round, address) in ["192.168.2.1/24", "192.168.3.1/24"].into_iter().enumerate() {
        settings.set("lan.address", address).unwrap();
        assert_eq!(
            provision(&mut image, &settings),
            Ok(Saved::Written),
            "{round}"
        );
        assert_eq!(provision(&mut image, &settings), Ok(Saved::Unchanged));
        assert_eq!(stored(&mut image), Some(settings));
    }
    assert!(
        image[..0x3e_0000].iter().all(|&byte| byte == 0xff),
        "nothing else is touched"
    );
    let mut body = [0; SETTINGS_BYTES_MAX];
    assert!(settings.encode(&mut body).is_some() && VERSION == 1);
}

mod daemon;
mod files;
mod images;
mod networks;
mod running;
mod volumes;
mod wire;
mod world;

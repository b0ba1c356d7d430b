"""What the package tells about itself."""

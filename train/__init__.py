"""The desktop side: networks, losses and training on map imagery."""

mod sandbox_mqtt;
